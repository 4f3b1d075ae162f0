"""The examples of `docs/search.md` are what they say: searches, and faults in Flower's language where it lacks them."""

import re
from pathlib import Path

import pytest

from meadow_api.errors import SearchError
from meadow_api.search.language import parse
from meadow_api.search.terms import FIELDS
from meadow_api.search.tree import Text, show

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "search.md").read_text()
EXAMPLES = re.findall(r"^\| `([^|]+)` \|", PAGE.partition("## Terms")[0], re.MULTILINE)


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_a_search(example: str) -> None:
    node = parse(example)
    assert node is not None
    assert parse(show(node)) == node


@pytest.mark.parametrize("example", [example for example in EXAMPLES if ":" in example])
def test_no_example_means_its_field_as_a_mere_text(example: str) -> None:
    node = parse(example)
    for term in getattr(node, "parts", (node,)):
        assert not (isinstance(term, Text) and len(term.fields) > 1 and ":" in term.parts[0])


def test_there_are_examples_and_every_field_is_told() -> None:
    assert len(EXAMPLES) > 10
    for field in FIELDS:
        assert f"`{field}" in PAGE


def test_flower_has_no_negation_as_the_page_says() -> None:
    with pytest.raises(SearchError):
        parse("NOT result:foo", flower=True)
