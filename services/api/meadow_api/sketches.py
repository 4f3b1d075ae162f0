"""Quantile sketches: how values are spread, in a few hundred bytes that can be added together.

Values fall into buckets whose bounds grow by a constant factor, so that every quantile is known with a relative error
of at most `ERROR`. Source: Charles Masson, Jee E. Rim, Homin K. Lee, "DDSketch: A Fast and Fully-Mergeable Quantile
Sketch with Relative-Error Guarantees", PVLDB 12(12), 2019. A sketch is a plain dict of bucket to count; adding two is
exact, in any order. Pure.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import ceil, log

import msgspec

ERROR = 0.02
SMALLEST = 1e-4
"""In seconds. What is less counts as zero."""
LARGEST = 1e9

Sketch = dict[int, int]
"""Bucket to count. Bucket `i` holds the values from `GAMMA ** (i - 1)` (left out) to `GAMMA ** i`."""

ZERO = -(2**15)
GAMMA = (1 + ERROR) / (1 - ERROR) * (1 - 1e-9)
_PER_BUCKET = 1 / log(GAMMA)

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[int, int]).decode


def sketch(values: Iterable[float]) -> Sketch:
    """The sketch of some values, in seconds. Negative ones count as zero."""
    return Counter([ceil(log(v) * _PER_BUCKET) if SMALLEST <= v < LARGEST else _beyond(v) for v in values])


def _beyond(value: float) -> int:
    return ceil(log(LARGEST) * _PER_BUCKET) if value >= LARGEST else ZERO


def add(into: Sketch, other: Mapping[int, int]) -> None:
    """Add the other sketch's counts, in place."""
    for bucket, count in other.items():
        into[bucket] = into.get(bucket, 0) + count


def size(of: Mapping[int, int]) -> int:
    """How many values the sketch has seen."""
    return sum(of.values())


def quantiles(of: Mapping[int, int], shares: Sequence[float]) -> list[float | None]:
    """The values below which these shares of all values lie (ascending, each from 0 to 1); `None` without values."""
    total = size(of)
    if not total:
        return [None] * len(shares)
    found: list[float | None] = []
    seen = 0
    buckets = iter(sorted(of.items()))
    bucket, count = next(buckets)
    for share in shares:
        rank = share * (total - 1)
        while seen + count <= rank:
            seen += count
            bucket, count = next(buckets)
        found.append(_middle(bucket))
    return found


def _middle(bucket: int) -> float:
    """The value that is within `ERROR` of all values of the bucket."""
    return 0.0 if bucket == ZERO else float(2 * GAMMA**bucket / (GAMMA + 1))


def pack(of: Mapping[int, int]) -> bytes | None:
    """The sketch as bytes; `None` for an empty one."""
    return _encode(of) if of else None


def unpack(data: bytes | None) -> Sketch:
    """What `pack` made."""
    return _decode(data) if data else {}
