"""The api alone in a process of its own, with its keeper, until it is killed.

`python -m tests.integration.apps.api_process NATS-URL DIRECTORY [PORT [STORE-URL]]`, with HTTP where a port is given.
"""

import asyncio
import logging
import sys
from dataclasses import replace
from pathlib import Path

from meadow.supervise import Children


async def main(url: str, directory: Path, port: int | None, store: str | None) -> None:
    """Read the streams into the store in `directory`."""
    children = Children()
    await children.spawn("keeper", heard=True)  # which loads while this process does
    from meadow import interpreter
    from meadow.bus import Bus
    from meadow.http import HttpServer, build_application
    from meadow.testing import make_context
    from meadow_api.service import build

    bus = await Bus.connect(url, name="api")
    context = replace(make_context(bus, directory, store=store), children=children)
    service = build(context)
    await service.listen()
    await service.speak()
    if port is not None:
        server = HttpServer(replace(context.settings, port=port))
        server.bind()
        await server.start(build_application(context.settings, context.gate, [service]))
    interpreter.prepare()
    raise await context.watch.failed()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    port, store = (*sys.argv[3:], *[None] * 2)[:2]
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), int(port) if port else None, store))
