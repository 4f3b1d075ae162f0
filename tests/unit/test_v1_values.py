"""The small decisions of /api/v1: places in the stream, packing, validators, moments of a task."""

import pytest
from aiohttp.test_utils import make_mocked_request

from meadow.bus import StreamState
from meadow.queries import AttemptRow
from meadow_api.timeline import moments_of
from meadow_api.v1.event_stream import Place, beginning, read_place
from meadow_api.v1.replies import etag_of, matches, takes_gzip

STREAM = StreamState("made", first=10, last=50)


@pytest.mark.parametrize(
    ("text", "sequence", "index", "passes"),
    [
        ("12.3", 12, 3, False),
        ("12.3", 12, 4, True),
        ("12.3", 11, 9, False),
        ("12.3", 13, 0, True),
        ("12", 12, 400, False),
        ("12", 13, 0, True),
        ("0", 1, 0, True),
    ],
)
def test_a_place_lets_through_what_comes_behind_it(text: str, sequence: int, index: int, passes: bool) -> None:
    place = read_place(text)
    assert place is not None
    assert place.passes(sequence, index) is passes


@pytest.mark.parametrize(
    ("place", "begins", "missed"),
    [
        (None, Place(50), None),
        (Place(0), Place(0), None),
        (Place(9, 2), Place(9, 2), None),
        (Place(30), Place(30), None),
        (Place(5, 1), Place(5, 1), (5, 9)),
        (Place(51), Place(50), (51, 50)),
    ],
)
def test_what_is_gone_from_the_stream_is_known_at_the_beginning(
    place: Place | None, begins: Place, missed: tuple[int, int] | None
) -> None:
    assert beginning(place, STREAM) == (begins, missed)


@pytest.mark.parametrize(
    ("header", "taken"),
    [
        ("gzip", True),
        ("deflate, GZIP;q=0.5", True),
        ("gzip;q=0", False),
        ("br, gzip ; q=0.000", False),
        ("gzip;q=0.001", True),
        ("identity", False),
        ("", False),
    ],
)
def test_gzip_is_sent_to_those_who_take_it(header: str, taken: bool) -> None:
    assert takes_gzip(make_mocked_request("GET", "/", headers={"Accept-Encoding": header})) is taken


def test_validators_tell_parts_apart_and_are_compared_weakly() -> None:
    assert etag_of(b"ab", b"c") != etag_of(b"a", b"bc")
    etag = etag_of(b"a")
    for header, same in (
        (etag, True),
        (etag.removeprefix("W/"), True),
        (f'"x", {etag}', True),
        ('"x"', False),
        ("", False),
    ):
        assert matches(make_mocked_request("GET", "/", headers={"If-None-Match": header}), etag) is same


def test_a_moment_that_task_and_attempt_both_know_is_told_once() -> None:
    task = dict.fromkeys(("client", "retried", "rejected", "revoked", "succeeded", "lost_since", "worker"))
    task |= {"sent": 1.0, "failed": 9.0, "retries": 1}
    attempts = [
        AttemptRow(retries=0, sent=1.0, received=2.0, started=2.0, ended=4.0, state="RETRY"),
        AttemptRow(number=2, retries=1, received=5.0, started=6.0, ended=9.0, state="FAILURE"),
    ]
    assert [(moment.at, moment.what, moment.retries) for moment in moments_of(task, attempts)] == [
        (1.0, "sent", 0),
        (2.0, "received", 0),
        (2.0, "started", 0),
        (4.0, "retried", 0),
        (5.0, "received", 1),
        (6.0, "started", 1),
        (9.0, "failed", 1),
    ]
