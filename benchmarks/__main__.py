"""`python -m benchmarks [ingest] [latency] [footprint]`: run these measurements, or all."""

import asyncio
import sys

from benchmarks import footprint, ingest, latency

ALL = {"footprint": footprint.measure, "latency": latency.measure, "ingest": ingest.measure}


def main() -> int:
    """Run what is named on the command line."""
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
