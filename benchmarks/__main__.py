"""`python -m benchmarks [latency] [footprint] [writing]`: these, or all of them; `ingest --help`, `query --help`."""

import asyncio
import sys

from benchmarks import footprint, ingest, latency, query, writing

ALL = {"footprint": footprint.measure, "latency": latency.measure, "writing": writing.measure, "ingest": ingest.measure}


def main() -> int:
    """Run what is named on the command line."""
    if sys.argv[1:2] == ["query"]:
        asyncio.run(query.measure(sys.argv[2:]))
        return 0
    if sys.argv[1:2] == ["ingest"]:
        asyncio.run(ingest.measure(sys.argv[2:]))
        return 0
    chosen = sys.argv[1:] or list(ALL)
    unknown = [name for name in chosen if name not in ALL]
    if unknown:
        print(f"There is no measurement called {unknown[0]!r}; there are {', '.join(ALL)}.")
        return 2
    for name in chosen:
        print(f"== {name}")
        asyncio.run(ALL[name]())
    return 0


if __name__ == "__main__":
    sys.exit(main())
