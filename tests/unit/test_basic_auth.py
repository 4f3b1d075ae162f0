"""Basic authentication reads exactly what RFC 7617 and Flower read."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meadow_basic_auth import credentials


def header(text: str, scheme: str = "Basic") -> str:
    return f"{scheme} {base64.b64encode(text.encode()).decode()}"


@pytest.mark.parametrize("pair", ["user:pswd", "second:pa:ss", "ünï:cødé", "empty:"])
def test_a_pair_is_read_as_it_was_sent(pair: str) -> None:
    assert credentials(header(pair)) == pair.encode()


@pytest.mark.parametrize(
    "text", ["", "Basic", "Basic %%%", "Bearer dXNlcjpwc3dk", header("user:pswd", "basic"), header("nocolon")]
)
def test_anything_else_is_nobody(text: str) -> None:
    assert credentials(text) is None


@given(st.text(max_size=60))
def test_no_header_breaks_it(text: str) -> None:
    credentials(text)
    credentials("Basic " + text)
