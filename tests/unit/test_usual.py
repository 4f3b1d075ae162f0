"""The short way to a task's record gives what the careful way gives, or nothing."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from meadow.events import TaskFact, TaskFailed, TaskReceived, TaskRetried, TaskSent, TaskStarted, TaskSucceeded
from meadow_api.fold import fold
from meadow_api.usual import usual_record

UUID = "3f2c"
HUGE = 2**63

texts = st.sampled_from([None, "", "a", "b"])
base: dict[str, Any] = {
    "uuid": st.just(UUID),
    "hostname": st.sampled_from(["w1@h"] * 6 + ["w2@h", ""]),
    "timestamp": st.sampled_from([1.0, 2.0, 3.0, 4.0, 5.0]),
    "seen": st.just(9.0),
    "clock": st.sampled_from([0, 1, 2, 3, -1, HUGE]),
    "pid": st.sampled_from([7] * 6 + [8, None, HUGE]),
}
details: dict[str, Any] = dict.fromkeys(("name", "args", "kwargs", "root_id", "parent_id", "eta", "expires"), texts) | {
    "retries": st.sampled_from([0] * 6 + [1, HUGE, -1])
}
error: dict[str, Any] = {"exception": texts, "traceback": texts}
sent = st.builds(TaskSent, **base, **details, queue=texts, exchange=texts, routing_key=texts)
received = st.builds(TaskReceived, **base, **details)
started = st.builds(TaskStarted, **base)
ends = st.one_of(
    st.builds(TaskSucceeded, **base, result=texts, runtime=st.sampled_from([None, 0.5])),
    st.builds(TaskFailed, **base, **error),
    st.builds(TaskRetried, **base, **error),
)
likely = st.tuples(st.one_of(sent, st.none()), received, started, st.one_of(ends, st.none())).map(
    lambda events: [event for event in events if event is not None]
)
any_order = st.lists(st.one_of(sent, received, started, ends), min_size=1, max_size=6)


@given(st.one_of(likely, any_order))
@settings(max_examples=1500)
def test_the_short_way_gives_the_same_record_or_none(history: list[TaskFact]) -> None:
    short = usual_record(UUID, history)
    assert short is None or short == fold(UUID, history)


def test_a_usual_story_takes_the_short_way() -> None:
    def at(kind: type[Any], timestamp: float, host: str = "w1@h", **more: Any) -> Any:
        return kind(uuid=UUID, hostname=host, pid=7, timestamp=timestamp, seen=timestamp, clock=1, **more)

    described = {"name": "n", "args": "(1,)", "kwargs": "{}", "root_id": UUID}
    story = [
        at(TaskSent, 1, "web@h", **described, queue="high"),
        at(TaskReceived, 2, **described),
        at(TaskStarted, 3),
        at(TaskFailed, 4, exception="E"),
    ]
    for history in (story, story[1:], story[:3], story[:2], story[1:2]):
        assert usual_record(UUID, history) == fold(UUID, history)
    assert usual_record(UUID, story[:1]) is None
