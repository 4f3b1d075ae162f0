"""The search language: what a text means, and how its faults are told."""

import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meadow_api.errors import SearchError
from meadow_api.search.conditions import Scope, bounds, condition
from meadow_api.search.functions import epoch_of, folded_in_order, in_order, kwargs_has
from meadow_api.search.language import parse
from meadow_api.search.moments import Calendar, Duration, FromNow, Today
from meadow_api.search.tree import (
    FLOWER_SEARCHED,
    SEARCHED,
    All,
    Known,
    Marked,
    Node,
    Not,
    Pair,
    Range,
    Some,
    Text,
    show,
)

NOW = 1_795_400_000.0


def text(value: str, field: str | None = None) -> Text:
    return Text(FLOWER_SEARCHED if field is None else (field,), (value,))


def word(*parts: str) -> Text:
    return Text(SEARCHED, parts)


def whole(field: str, *parts: str) -> Text:
    return Text((field,), parts, whole=True)


FLOWER: list[tuple[str, Node | None]] = [
    ("", None),
    ("  \t ", None),
    ("proj.add", text("proj.add")),
    ("one two", All((text("one"), text("two")))),
    ("one AND two", All((text("one"), text("two")))),
    ("one OR two", Some((text("one"), text("two")))),
    ("one two OR three", Some((All((text("one"), text("two"))), text("three")))),
    ("one (two OR three)", All((text("one"), Some((text("two"), text("three")))))),
    ("((((( abc )))))", text("abc")),
    ("and orr nott", All((text("and"), text("orr"), text("nott")))),
    ('"two words"', text("two words")),
    ('"AND"', text("AND")),
    ('result:"connection refused"', text("connection refused", "result")),
    (r'"say \"hi\" \\ there"', text(r'say "hi" \ there')),
    (r'"a\nb"', text(r"a\nb")),
    ("NAME:abc", text("abc", "name")),
    ("uuid:0a1b", text("0a1b", "uuid")),
    ("state:failure", whole("state", "FAILURE")),
    ("state:ok", whole("state", "OK")),
    ("kwargs:n=7", Pair("n", ("7",))),
    ('kwargs:who="two words"', Pair("who", ("two words",))),
    ('kwargs:"a=b"', text("a=b", "kwargs")),
    ("kwargs:colour", text("colour", "kwargs")),
    ("args:a=b", text("a=b", "args")),
    ("colour:green", text("colour:green")),
    ("queue:high", text("queue:high")),
    ("received:>-1h", text("received:>-1h")),
    ("kwargs.id:42", text("kwargs.id:42")),
    ("name:proj.*", text("proj.*", "name")),
    ('"name:abc"', text("name:abc")),
    ('na"me:abc"', text("name:abc")),
    ("<b>&", text("<b>&")),
    ("a-b", text("a-b")),
]


@pytest.mark.parametrize(("query", "meaning"), FLOWER)
def test_what_a_query_means_in_flower(query: str, meaning: Node | None) -> None:
    assert parse(query, flower=True) == meaning


MEANINGS: list[tuple[str, Node | None]] = [
    ("", None),
    ("proj.add", word("proj.add")),
    ("ab", word("ab")),
    ("one two or three", Some((All((word("one"), word("two"))), word("three")))),
    ("one and (two OR three)", All((word("one"), Some((word("two"), word("three")))))),
    ("NOT one", Not(word("one"))),
    ("-one -result:two", All((Not(word("one")), Not(text("two", "result"))))),
    ("one -(two or not three)", All((word("one"), Not(Some((word("two"), Not(word("three")))))))),
    ('-"two words"', Not(word("two words"))),
    ("one - two", All((word("one"), word("-"), word("two")))),
    ('"or"', word("or")),
    ('"-one"', word("-one")),
    ("foo*bar", word("foo", "bar")),
    ("*foo*", word("foo")),
    ("foo**bar", word("foo", "bar")),
    ('"foo*bar"', word("foo*bar")),
    ('foo*"*"', word("foo", "*")),
    ("name:proj", text("proj", "name")),
    ("name:proj.*", whole("name", "proj.", "")),
    ("name:*.add", whole("name", "", ".add")),
    ("name:=proj.add", whole("name", "proj.add")),
    ('name:"=proj"', text("=proj", "name")),
    ("worker:celery@w*", whole("worker", "celery@w", "")),
    ("queue:high", text("high", "queue")),
    ("root:abc", whole("root", "abc")),
    ("state:fail*", whole("state", "FAIL", "")),
    ("state:failure", whole("state", "FAILURE")),
    ("args:client*42", Text(("args",), ("client", "42"))),
    ('args:"client 42"', text("client 42", "args")),
    ("traceback:KeyError", text("KeyError", "traceback")),
    ("kwargs.user_id:42", Pair("user_id", ("42",))),
    ("KWARGS.user_id:4*", Pair("user_id", ("4", ""))),
    ("kwargs:user_id=42", Pair("user_id", ("42",))),
    ("kwargs:user_id=", Pair("user_id", ("",))),
    ("runtime:>5", Range("runtime", ">", Duration(5.0))),
    ("runtime:1..5", Range("runtime", "..", Duration(1.0), Duration(5.0))),
    ("runtime:5..", Range("runtime", ">=", Duration(5.0))),
    ("wait:<=1h30m", Range("wait", "<=", Duration(5400.0))),
    ("runtime:<250ms", Range("runtime", "<", Duration(0.25))),
    ("retries:2", Range("retries", "=", 2)),
    ("retries:>0", Range("retries", ">", 0)),
    ("received:>-1h", Range("received", ">", FromNow(-3600.0))),
    ("eta:<+2d", Range("eta", "<", FromNow(172_800.0))),
    ("started:today", Range("started", "=", Today(0))),
    ("finished:2026-11", Range("finished", "=", Calendar(datetime(2026, 11, 1, tzinfo=UTC), "month"))),
    (
        "received:2026-11-20..2026-11-22",
        Range(
            "received",
            "..",
            Calendar(datetime(2026, 11, 20, tzinfo=UTC), "day"),
            Calendar(datetime(2026, 11, 22, tzinfo=UTC), "day"),
        ),
    ),
    (
        "sent:>=2026-11-20T12:30+02:00",
        Range("sent", ">=", Calendar(datetime(2026, 11, 20, 10, 30, tzinfo=UTC), "minute")),
    ),
    ('sent:<"2026-11-20 12:30"', Range("sent", "<", Calendar(datetime(2026, 11, 20, 12, 30, tzinfo=UTC), "minute"))),
    ("exception:*", Known("exception")),
    ("-eta:*", Not(Known("eta"))),
    ("is:lost", Marked("lost")),
    ("IS:Retried", Marked("retried")),
    ("colour:green", word("colour:green")),
]


@pytest.mark.parametrize(("query", "meaning"), MEANINGS)
def test_what_a_query_means(query: str, meaning: Node | None) -> None:
    assert parse(query) == meaning


FLOWER_FAULTS = [
    ("ab", "Substring search terms must contain at least 3 characters at position 0."),
    ("abc de", "Substring search terms must contain at least 3 characters at position 4."),
    ("name:ab", "Substring search terms must contain at least 3 characters at position 0."),
    ("NOT failure", "NOT is not supported at position 0."),
    ("abc NOT failure", "NOT is not supported at position 4."),
    ("abc OR NOT failure", "NOT is not supported at position 7."),
    ("-failure", "Negation with '-' is not supported at position 0."),
    ("abc -(failure)", "Negation with '-' is not supported at position 4."),
    ("abc -", "Negation with '-' is not supported at position 4."),
    ('"open', "Unterminated quoted phrase at position 0."),
    ('abc name:"open', "Unterminated quoted phrase at position 9."),
    ("abc OR", "OR must be followed by a search term at position 4."),
    ("abc AND", "AND must be followed by a search term at position 4."),
    ("abc OR OR def", "OR must be followed by a search term at position 4."),
    ("(abc OR)", "OR must be followed by a search term at position 5."),
    ("OR abc", "Expected a search term at position 0."),
    ("(OR abc)", "Expected a search term at position 1."),
    ("(abc", "Missing closing parenthesis at position 0."),
    ("(abc) ((def)", "Missing closing parenthesis at position 6."),
    ("(", "Missing closing parenthesis at position 0."),
    ("abc)", "Unexpected ')' at position 3."),
    (")", "Unexpected ')' at position 0."),
    ("()", "Empty group at position 0."),
    ('""', "Empty search term at position 0."),
    ("name:", "Search qualifier requires a value at position 0."),
    ("kwargs:=x", "Search qualifier requires a value at position 0."),
    ("((((((abc))))))", "Query nesting exceeds 5 levels at position 5."),
    (" ".join(f"abc{i}" for i in range(129)), "Query exceeds 128 tokens."),
    ("x" * 2049, "Query exceeds 2048 characters."),
]


@pytest.mark.parametrize(("query", "fault"), FLOWER_FAULTS, ids=[fault for _, fault in FLOWER_FAULTS])
def test_how_flower_tells_a_fault(query: str, fault: str) -> None:
    with pytest.raises(SearchError) as caught:
        parse(query, flower=True)
    assert str(caught.value) == fault


FAULTS = [
    ("name:", "Search qualifier requires a value at position 0.", "without a blank"),
    ("abc runtime:fast", "Not a duration at position 12.", "runtime:>5"),
    ("received:>yesterday-1", "Not a time at position 10.", "received:>-1h"),
    ("received:2026-13-01", "Not a time at position 9.", "2026-11-20"),
    ("received:2026-11-20..soon", "Not a time at position 21.", "2026-11-20"),
    ("received:-1h", "A time like this is a single instant at position 9.", "received:>-1h"),
    ("retries:-1", "Not a number at position 8.", "retries:>0"),
    ("is:gone", "Unknown mark at position 3.", "is:lost"),
    ("NOT", "NOT must be followed by a search term at position 0.", '"not"'),
    ("-", "", ""),
    ("(abc -)", "- must be followed by a search term at position 5.", '"-"'),
    ("abc *", "A * alone matches everything at position 4.", "quote it"),
    ("a*b*c*d*e*f*g*h*i*j*k*l", "More than 10 * in one word at position 0.", "fewer"),
    ("abc\0def", "Unusable character at position 3.", "Remove it"),
    ("(" * 21 + "abc" + ")" * 21, "Query nesting exceeds 20 levels at position 20.", ""),
]


@pytest.mark.parametrize(("query", "fault", "hint"), FAULTS, ids=[fault for _, fault, _ in FAULTS])
def test_how_a_fault_is_told_and_how_to_mend_it(query: str, fault: str, hint: str) -> None:
    if not fault:
        assert parse(query) is not None
        return
    with pytest.raises(SearchError) as caught:
        parse(query)
    assert str(caught.value) == fault
    assert hint in caught.value.hint


def test_a_caret_points_at_the_fault() -> None:
    with pytest.raises(SearchError) as caught:
        parse("state:FAILURE runtime:fast")
    assert caught.value.pointed("state:FAILURE runtime:fast") == ("state:FAILURE runtime:fast\n                      ^")
    query = "x" * 500 + " runtime:fast"
    with pytest.raises(SearchError) as caught:
        parse(query)
    line, caret = caught.value.pointed(query).split("\n")
    assert line[caret.index("^") :].startswith("fast")


@pytest.mark.parametrize(
    ("query", "low", "high"),
    [
        ("received:2026-11-20", (1795132800.0, True), (1795219200.0, False)),
        ("received:>2026-11-20", (1795219200.0, True), None),
        ("received:>=2026-11-20", (1795132800.0, True), None),
        ("received:<2026-11-20", None, (1795132800.0, False)),
        ("received:<=2026-11-20", None, (1795219200.0, False)),
        ("received:2026-11-20..2026-11-21", (1795132800.0, True), (1795305600.0, False)),
        ("received:2026-11", (1793491200.0, True), (1796083200.0, False)),
        ("received:>-1h", (NOW - 3600, False), None),
        ("received:-2h..-1h", (NOW - 7200, True), (NOW - 3600, True)),
        ("received:yesterday", (1795305600.0, True), (1795392000.0, False)),
        ("runtime:>5", (5.0, False), None),
        ("runtime:1..5", (1.0, True), (5.0, True)),
        ("retries:2", (2, True), (2, True)),
    ],
)
def test_between_what_a_range_lies(query: str, low: object, high: object) -> None:
    node = parse(query)
    assert isinstance(node, Range)
    assert bounds(node, NOW) == (low, high)


PIECES = (  # one a word
    "( ) \" \\ AND or NOT - * .. : = > < ' % _ é abc 42 -1h 2026-11-20 5m name: state: kwargs: kwargs.k: runtime: "
    "received:> is:lost eta:* retries: root: now 1e5 + \0 \ud800"
)
pieces = st.sampled_from([" ", *PIECES.split()])
queries = st.one_of(
    st.text(max_size=200), st.lists(pieces, max_size=40).map(" ".join), st.lists(pieces, max_size=40).map("".join)
)


@given(queries, st.booleans(), st.sampled_from(["sqlite", "postgresql"]))
def test_no_text_makes_the_parser_fail_otherwise_than_with_a_clear_fault(
    query: str, flower: bool, dialect: str
) -> None:
    fault: SearchError | None = None
    try:
        node = parse(query, flower=flower)
    except SearchError as exc:
        fault = exc
    if fault is None:
        assert node is None or condition(node, Scope(NOW, dialect, lambda _: ["abc"])) is not None
    else:
        assert str(fault).endswith(".")
        assert fault.position is None or 0 <= fault.position <= len(query)
        assert fault.pointed(query)


@given(queries)
def test_an_accepted_query_means_the_same_when_it_is_written_out(query: str) -> None:
    try:
        node = parse(query)
    except SearchError:
        return
    if node is not None:
        assert parse(show(node)) == node


@pytest.mark.parametrize(
    "query",
    [
        "(" * 2048,
        '"' * 2047,
        "-" * 2047 + "a",
        '"a\\' * 680,
        "a*" * 1000,
        "kwargs." * 290 + ":1",
        "received:" + "9" * 2000,
        "runtime:" + "1s" * 1000,
        "a " * 127,
        "\u00e9" * 2048,
    ],
    ids=lambda query: query[:8],
)
def test_hostile_queries_take_no_time(query: str) -> None:
    began = time.process_time()
    try:
        parse(query)
    except SearchError:
        pass
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize(
    ("kwargs", "key", "value", "found"),
    [
        ("{'colour': 'green', 'n': 7}", "colour", "green", True),
        ("{'colour': 'green', 'n': 7}", "n", "7", True),
        ("{'Colour': 'GREEN'}", "colour", "green", True),
        ("{'n': {'colour': 'green'}}", "colour", "green", False),
        ("{'n': None}", "n", "none", True),
        ("{'n': 'cut...", "n", "cut", False),
        ("{'n': __import__('os').getcwd()}", "n", "/", False),
        ("['n']", "n", "n", False),
        ("{" * 5000, "n", "1", False),
        ("{'n': " + "-" * 5000 + "1}", "n", "1", False),
        ("{'n': " + "(" * 190 + ")" * 190 + "}", "m", "1", False),
        ("{'n': 1" + "0" * 6000 + "}", "n", "1", False),
        ("{'n': '" + "x" * 20_000 + "'}", "n", "x", False),
        ("", "n", "7", False),
        (None, "n", "7", False),
    ],
)
def test_keyword_pairs_are_read_as_literals_and_never_evaluated(
    kwargs: str | None, key: str, value: str, found: bool
) -> None:
    assert kwargs_has(kwargs, key, value) is found


def test_a_value_of_a_keyword_may_be_a_pattern() -> None:
    assert kwargs_has("{'mail': 'anna@example.com'}", "mail", "", "@example.com")
    assert not kwargs_has("{'mail': 'anna@example.com'}", "mail", "", "@example.org")


def test_case_is_ignored_in_every_script() -> None:
    assert folded_in_order(f'["{"straße".casefold()}"]', 0, None, "STRASSE 7")
    assert folded_in_order(f'["{"ключ".casefold()}"]', 0, "{'КЛЮЧ': 1}")
    assert not folded_in_order('["ключ"]', 0, None, "key")


@pytest.mark.parametrize(
    ("value", "parts", "whole", "found"),
    [
        ("abcabc", ["ab", "ca"], False, True),
        ("abcabc", ["ca", "ab"], False, False),
        ("abcabc", ["abc", "abc"], True, True),
        ("abc", ["abc", "abc"], True, False),
        ("abc", ["abc"], True, True),
        ("abcd", ["abc"], True, False),
        ("proj.add", ["proj.", ""], True, True),
        ("my.proj.add", ["proj.", ""], True, False),
        ("aXbXc", ["a", "x", "c"], True, False),
        ("axbxc", ["a", "b", "c"], True, True),
    ],
)
def test_parts_follow_each_other(value: str, parts: list[str], whole: bool, found: bool) -> None:
    assert in_order(value, parts, whole) is found


@pytest.mark.parametrize(
    ("eta", "epoch"),
    [
        ("2026-11-20T10:00:00+00:00", 1795168800.0),
        ("2026-11-20T12:00:00.5+02:00", 1795168800.5),
        ("2026-11-20T10:00:00", 1795168800.0),
        ("soon", None),
        ("9" * 100, None),
        ("", None),
        (None, None),
    ],
)
def test_times_in_texts_become_seconds(eta: str | None, epoch: float | None) -> None:
    assert epoch_of(eta) == epoch
