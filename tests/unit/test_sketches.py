"""Quantiles are right within two percent, however the values were added together."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meadow_api.sketches import ERROR, SMALLEST, add, pack, quantiles, size, sketch, unpack

values = st.lists(st.floats(SMALLEST, 1e8), min_size=1, max_size=60)
SHARES = (0.0, 0.25, 0.5, 0.9, 0.99, 1.0)


def exact(known: list[float], share: float) -> float:
    return sorted(known)[int(share * (len(known) - 1))]


@given(values)
@settings(max_examples=200)
def test_every_quantile_is_right_within_two_percent(known: list[float]) -> None:
    for share, found in zip(SHARES, quantiles(sketch(known), SHARES), strict=True):
        assert found is not None
        assert abs(found - exact(known, share)) <= ERROR * exact(known, share)


@given(values, values, values)
@settings(max_examples=100)
def test_sketches_add_up_to_the_sketch_of_all_values_in_any_order(
    a: list[float], b: list[float], c: list[float]
) -> None:
    whole = sketch([*a, *b, *c])
    for first, *others in ((a, b, c), (c, a, b)):
        together = sketch(first)
        for other in others:
            add(together, sketch(other))
        assert together == whole


@given(values)
def test_a_sketch_survives_its_bytes(known: list[float]) -> None:
    assert unpack(pack(sketch(known))) == sketch(known)


def test_no_values_are_no_bytes_and_no_quantiles() -> None:
    assert pack(sketch([])) is None
    assert unpack(None) == {}
    assert quantiles({}, (0.5, 0.9)) == [None, None]


@pytest.mark.parametrize("value", [0.0, -5.0, SMALLEST / 2])
def test_what_is_too_small_to_matter_counts_as_zero(value: float) -> None:
    assert quantiles(sketch([value]), (0.5,)) == [0.0]


def test_absurd_values_share_the_last_bucket() -> None:
    assert sketch([1e30]) == sketch([1e12])


def test_a_hundred_thousand_run_times_take_less_than_two_kilobytes() -> None:
    chance = random.Random(4)
    found = sketch([chance.lognormvariate(-2, 1.5) for _ in range(100_000)])
    assert size(found) == 100_000
    assert len(pack(found) or b"") < 2000
