"""What makes two failures the same failure."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meadow_api.failures import FRAMES, LONGEST_MESSAGE, Failure, Grouping, frames_of, kind_of, normalised, split_repr

TRACEBACK = """Traceback (most recent call last):
  File "/venv/site-packages/celery/app/trace.py", line 453, in trace_task
    R = retval = fun(*args, **kwargs)
  File "/srv/app/proj/tasks.py", line 12, in charge
    pay(client)
  File "/srv/app/proj/bank.py", line 3, in pay
    raise Declined(client)
proj.bank.Declined: client 42
"""


def test_line_numbers_directories_and_messages_do_not_matter() -> None:
    moved = TRACEBACK.replace("line 12", "line 99").replace("/srv/app", "C:\\releases\\7").replace("42", "7")
    assert kind_of("Declined('client 42')", TRACEBACK) == kind_of("Declined('client 7')", moved)
    assert kind_of("Declined('client 42')", TRACEBACK).id == kind_of("Declined('client 7')", moved).id


def test_another_class_another_function_or_another_caller_is_another_failure() -> None:
    kinds = {
        kind_of("Declined('x')", TRACEBACK),
        kind_of("Timeout('x')", TRACEBACK),
        kind_of("Declined('x')", TRACEBACK.replace("in pay", "in refund")),
        kind_of("Declined('x')", TRACEBACK.replace("in charge", "in renew")),
    }
    assert len({kind.id for kind in kinds}) == 4


def test_of_chained_exceptions_the_last_one_counts() -> None:
    cause = TRACEBACK.replace("proj/", "lib/")
    chained = f"{cause}\nDuring handling of the above exception, another exception occurred:\n\n{TRACEBACK}"
    assert frames_of(chained) == frames_of(TRACEBACK) == ("proj/tasks.py in charge", "proj/bank.py in pay")


def test_recursion_is_one_frame_and_only_the_innermost_are_kept() -> None:
    frame = '  File "/a/b/deep.py", line 3, in again\n    again()\n'
    assert frames_of("Traceback (most recent call last):\n" + frame * 900) == ("b/deep.py in again",)
    many = "".join(f'  File "/a/b/c.py", line {n}, in f_{chr(97 + n)}\n' for n in range(20))
    assert frames_of(many) == tuple(f"b/c.py in f_{chr(97 + n)}" for n in range(20 - FRAMES, 20))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("KeyError('user_id')", ("KeyError", "user_id")),
        ("proj.errors.Bad(1, 'x')", ("Bad", "1, 'x'")),
        ("<ExceptionInfo: Reject('no', requeue=False)>", ("ExceptionInfo", "Reject('no', requeue=False)>")),
        ("TimeoutError()", ("TimeoutError", "")),
        ("", ("(unknown)", "")),
        ("(7)", ("(unknown)", "(7)")),
    ],
)
def test_a_repr_is_a_class_and_a_message(text: str, expected: tuple[str, str]) -> None:
    assert split_repr(text) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("job 17 of 20", "job 3 of 400"),
        ("at 0x7f001a", "at 0x55aa"),
        ("task 1b4e28ba-2fa1-11d2-883f-0016d3cca427", "task 9f4e28ba-2fa1-11d2-883f-0016d3cca42a"),
        ("key 'a b'", "key 'c'"),
        ("etag 5f4dcc3b5aa765d61d8327deb882cf99", "etag 098f6bcd4621d373cade4e832627b4f6"),
        ("after 3.50 s", "after 12 s"),
    ],
)
def test_what_differs_from_task_to_task_is_left_out_of_a_message(one: str, other: str) -> None:
    assert normalised(one) == normalised(other)


def test_words_that_differ_stay_different() -> None:
    assert normalised("disk full on db1") != normalised("no route to db1")
    assert normalised("don't stop, can't go") == "don't stop, can't go"


@given(st.text(max_size=3000), st.text(max_size=3000))
def test_no_text_is_too_odd(exception: str, traceback: str) -> None:
    kind = kind_of(exception, traceback)
    assert len(kind.message) <= LONGEST_MESSAGE
    assert len(kind.frames) <= FRAMES
    assert kind_of(exception, traceback).id == kind.id


@pytest.mark.parametrize(
    "hostile",
    [
        "'" * 60_000,
        '"' * 60_000,
        "0" * 60_000,
        "a-" * 30_000,
        '  File "' * 10_000,
        "Traceback (most recent call last):" * 3000,
    ],
)
def test_hostile_texts_are_read_in_little_time(hostile: str) -> None:
    begun = time.process_time()
    kind_of(f"E({hostile})", hostile)
    assert time.process_time() - begun < 0.5


def test_a_group_counts_by_parts_of_the_window_and_shows_the_newest() -> None:
    grouping = Grouping(since=100.0, until=200.0, parts=10)
    for number, at in enumerate((100.0, 109.9, 110.0, 199.0, 200.0, 99.0, 201.0)):
        grouping.add(Failure(f"t{number}", at, "proj.add", "w1@h", "ValueError('no')", None))
    (group,) = grouping.groups()
    assert (group.count, group.trend) == (5, [2, 1, 0, 0, 0, 0, 0, 0, 0, 2])
    assert (group.first_seen, group.last_seen, group.example.uuid) == (100.0, 200.0, "t4")


@given(st.permutations(range(8)))
def test_the_order_in_which_failures_are_read_does_not_matter(order: list[int]) -> None:
    grouping = Grouping(since=0.0, until=100.0, parts=4)
    for number in order:
        grouping.add(Failure(f"t{number}", 10.0 * number, "a", f"w{number % 2}", f"E{number % 2}({number})", None))
    found = {g.kind: (g.count, g.first_seen, g.last_seen, g.trend, g.example.uuid) for g in grouping.groups()}
    assert sorted(found.values()) == [
        (4, 0.0, 60.0, [2, 1, 1, 0], "t6"),
        (4, 10.0, 70.0, [1, 1, 2, 0], "t7"),
    ]
