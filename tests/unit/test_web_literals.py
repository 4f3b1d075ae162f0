"""Reprs as trees: readable, complete, and never evaluated."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meadow_web.literals import MAX_LENGTH, Node, parse, was_cut


def flat(node: Node) -> str:
    """All that a tree shows, without the commas and colons between its parts."""
    inside = "".join(flat(child) for child in node.children)
    return f"{node.key or ''}{node.text}{node.opening}{inside}{node.closing}"


def bare(text: str) -> str:
    return "".join(character for character in text if not character.isspace() and character not in ",:=")


def tree(text: str) -> Node:
    found = parse(text)
    assert found is not None
    return found


def test_arguments_become_a_tree_with_kinds() -> None:
    root = tree("(7777, {'customer': {'id': 4711, 'tags': ['vip']}, 'paid': False}, 'a, (b', -1.5e3, None)")
    assert [child.kind for child in root.children] == ["number", "group", "string", "number", "constant"]
    customer, paid = root.children[1].children
    assert (customer.key, customer.children[1].key, customer.children[1].children[0].text) == (
        "'customer'",
        "'tags'",
        "'vip'",
    )
    assert (paid.key, paid.kind, paid.text) == ("'paid'", "constant", "False")


def test_objects_that_python_could_not_read_back_are_leaves() -> None:
    root = tree("[<Order: 4711, of 'x'>, datetime.datetime(2030, 1, 1, tzinfo=utc), Decimal('1.5')]")
    assert root.children[0].text == "<Order: 4711, of 'x'>"
    assert root.children[1].opening == "datetime.datetime("
    assert root.children[1].children[3].key == "tzinfo"
    assert root.children[2].children[0].kind == "string"


@pytest.mark.parametrize(
    "text", ["", "3", "'a string'", "hello world", "'[not a list]'", "()", "{}", "[]", "a" * (MAX_LENGTH + 1) + "[1]"]
)
def test_what_has_no_structure_stays_text(text: str) -> None:
    assert parse(text) is None


def test_a_repr_that_celery_cut_is_still_a_tree() -> None:
    root = tree("({'a': [1, 2, ...], 'b': 'long te...}, ...)")
    assert bare("({'a': [1, 2, ...], 'b': 'long te...}, ...)") == bare(flat(root))


@pytest.mark.parametrize(
    "hostile",
    [
        "[" * 5000,
        "(" * 20_000 + ")" * 20_000,
        "[" + "-" * 60_000 + "1]",
        "{" + "'a':" * 15_000 + "1}",
        "[" + "'" * 60_000 + "]",
        "[" + "<" * 60_000 + "]",
        "[" + "\\" * 60_000 + "]",
        "[" + ",".join("1" for _ in range(30_000)) + "]",
        "(__import__('os').system('echo no'))",
        "[\x00\x1b[31m\ud800]",
    ],
    ids=range(10),
)
def test_hostile_reprs_are_read_quickly_or_left_as_text(hostile: str) -> None:
    began = time.thread_time()
    parse(hostile)
    assert time.thread_time() - began < 5.0  # processor time; what backtracks takes minutes


@given(st.text(alphabet="[](){}'\"\\,:= <>.abN1\n-", max_size=200).map(lambda text: f"[{text}]"))
def test_a_tree_leaves_nothing_out(text: str) -> None:
    found = parse(text)
    if found is not None:
        assert bare(flat(found)).startswith(bare(text).rstrip())


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.binary(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(st.lists(VALUES, min_size=1, max_size=5))
def test_every_python_value_has_as_many_branches_as_it_has_parts(value: list[object]) -> None:
    assert len(tree(repr(value)).children) == len(value)


def test_a_long_repr_with_an_ellipsis_was_cut() -> None:
    assert was_cut("(" + "'x', " * 100 + "...)")
    assert not was_cut("(1, 2)")
    assert not was_cut(None)
