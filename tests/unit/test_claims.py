"""A claim is believed only when this Meadow signed it, lately."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meadow.access.actors import Actor
from meadow.access.claims import LIFETIME, Signer
from meadow.errors import Refused

SIGNER = Signer(b"0123456789abcdef")
ALICE = Actor("alice", "user", "operator", "basic")


def test_a_signed_actor_is_believed_until_the_claim_is_too_old() -> None:
    claim = SIGNER.sign(ALICE, now=1000.0)
    assert SIGNER.verify(claim, now=1000.0 + LIFETIME) == ALICE
    with pytest.raises(Refused, match="too old"):
        SIGNER.verify(claim, now=1000.5 + LIFETIME)


def test_a_claim_of_another_key_is_refused() -> None:
    forged = Signer(b"another key of 16 bytes").sign(ALICE, now=1000.0)
    with pytest.raises(Refused, match="not signed"):
        SIGNER.verify(forged, now=1000.0)


@given(st.integers(min_value=0, max_value=200), st.characters(codec="ascii"))
def test_a_claim_with_one_character_changed_is_refused(place: int, character: str) -> None:
    claim = SIGNER.sign(ALICE, now=1000.0)
    place %= len(claim) - 1  # the last character of a signature carries unused bits
    changed = claim[:place] + character + claim[place + 1 :]
    if changed == claim:
        return
    with pytest.raises(Refused):
        SIGNER.verify(changed, now=1000.0)


@given(st.text(max_size=100))
def test_any_text_is_refused(text: str) -> None:
    with pytest.raises(Refused) as refusal:
        SIGNER.verify(text, now=0.0)
    assert refusal.value.code == "forbidden"


def test_a_short_key_is_not_accepted() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        Signer(b"short")
