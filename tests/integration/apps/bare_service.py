"""A service that does nothing, for tests of what stands in front of services."""

from collections.abc import Sequence
from typing import Any

from aiohttp import web


class BareService:
    """Has routes, and is well."""

    name = "bare"

    async def listen(self) -> None: ...

    async def speak(self) -> None: ...

    async def stop(self) -> None: ...

    def health(self) -> dict[str, Any]:
        return {"ok": True}

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        return ()
