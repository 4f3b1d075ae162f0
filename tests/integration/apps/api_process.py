"""The api alone in a process of its own, until it is killed: `python -m tests.integration.apps.api_process URL DIR`."""

import asyncio
import sys
from pathlib import Path

from meadow.bus import Bus
from meadow.testing import make_context
from meadow_api.service import build


async def main(url: str, directory: Path) -> None:
    """Read the streams into the store in `directory`."""
    bus = await Bus.connect(url, name="api")
    context = make_context(bus, directory)
    service = build(context)
    await service.listen()
    await service.speak()
    raise await context.watch.failed()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
