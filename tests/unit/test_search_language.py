"""The search language: what a text means, and how its faults are told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meadow_api.errors import SearchError
from meadow_api.search.conditions import condition
from meadow_api.search.functions import folded_contains, kwargs_has
from meadow_api.search.language import All, Node, Pair, Some, State, Text, parse


def text(value: str, field: str | None = None) -> Text:
    return Text(field, value)


MEANINGS: list[tuple[str, Node | None]] = [
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
    ("state:failure", State("FAILURE")),
    ("state:ok", State("OK")),
    ("kwargs:n=7", Pair("n", "7")),
    ('kwargs:who="two words"', Pair("who", "two words")),
    ('kwargs:"a=b"', text("a=b", "kwargs")),
    ("kwargs:colour", text("colour", "kwargs")),
    ("args:a=b", text("a=b", "args")),
    ("colour:green", text("colour:green")),
    ('"name:abc"', text("name:abc")),
    ('na"me:abc"', text("name:abc")),
    ("<b>&", text("<b>&")),
    ("a-b", text("a-b")),
]


@pytest.mark.parametrize(("query", "meaning"), MEANINGS)
def test_what_a_query_means(query: str, meaning: Node | None) -> None:
    assert parse(query) == meaning


FAULTS = [
    ("ab", "Substring search terms must contain at least 3 characters at position 0."),
    ("abc de", "Substring search terms must contain at least 3 characters at position 4."),
    ("name:ab", "Substring search terms must contain at least 3 characters at position 0."),
    ("NOT failure", "NOT is not supported at position 0."),
    ("abc NOT failure", "NOT is not supported at position 4."),
    ("-failure", "Negation with '-' is not supported at position 0."),
    ('"open', "Unterminated quoted phrase at position 0."),
    ('abc name:"open', "Unterminated quoted phrase at position 9."),
    ("abc OR", "OR must be followed by a search term at position 4."),
    ("abc AND", "AND must be followed by a search term at position 4."),
    ("abc OR OR def", "OR must be followed by a search term at position 4."),
    ("(abc OR)", "OR must be followed by a search term at position 5."),
    ("OR abc", "Expected a search term at position 0."),
    ("(abc", "Missing closing parenthesis at position 0."),
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


@pytest.mark.parametrize(("query", "fault"), FAULTS, ids=[fault for _, fault in FAULTS])
def test_how_a_fault_is_told(query: str, fault: str) -> None:
    with pytest.raises(SearchError) as caught:
        parse(query)
    assert str(caught.value) == fault


pieces = st.sampled_from(
    [
        "(",
        ")",
        '"',
        "\\",
        "AND",
        "OR",
        "NOT",
        "-",
        " ",
        "abc",
        "name:",
        "state:",
        "kwargs:",
        "=",
        ":",
        "%",
        "_",
        "'",
        "é",
    ]
)


@given(st.one_of(st.text(max_size=200), st.lists(pieces, max_size=40).map(" ".join), st.lists(pieces).map("".join)))
def test_no_text_makes_the_parser_fail_otherwise_than_with_a_clear_fault(query: str) -> None:
    fault: SearchError | None = None
    try:
        node = parse(query)
    except SearchError as exc:
        fault = exc
    if fault is None:
        assert node is None or condition(node) is not None
    else:
        assert str(fault).endswith(".")
        assert fault.position is None or 0 <= fault.position <= len(query)


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


def test_case_is_ignored_in_every_script() -> None:
    assert folded_contains("straße".casefold(), None, "STRASSE 7")
    assert folded_contains("ключ".casefold(), "{'КЛЮЧ': 1}")
    assert not folded_contains("ключ", None, "key")
