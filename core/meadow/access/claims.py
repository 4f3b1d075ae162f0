"""Signed claims of who acts, so that the controller need not believe whoever can publish on the bus.

A claim is `base64url(JSON of the actor and an expiry)` + `.` + `base64url(HMAC-SHA256 of that text)` (RFC 2104).
"""

import base64
import binascii
import hashlib
import hmac

import msgspec
from msgspec import Struct

from meadow.access.actors import Actor
from meadow.errors import Refused

LIFETIME = 60.0


class _Claim(Struct, frozen=True):
    actor: Actor
    expires: float


class Signer:
    """Signs and checks claims with one key that all services share."""

    def __init__(self, key: bytes) -> None:
        if len(key) < 16:
            raise ValueError("a signing key needs at least 16 bytes")
        self._key = key

    def sign(self, actor: Actor, *, now: float) -> str:
        """A claim for `actor` that is valid for a minute. `now` is epoch seconds."""
        body = _encode(msgspec.json.encode(_Claim(actor, now + LIFETIME)))
        return f"{body}.{_encode(self._digest(body))}"

    def verify(self, claim: str, *, now: float) -> Actor:
        """The actor of a valid claim; raises `Refused` with code `forbidden`."""
        body, _, signature = claim.partition(".")
        try:
            given = _decode(signature)
            if not hmac.compare_digest(given, self._digest(body)):
                raise Refused("forbidden", "The command was not signed by a service of this Meadow.")
            content = msgspec.json.decode(_decode(body), type=_Claim)
        except (binascii.Error, msgspec.MsgspecError, UnicodeError, ValueError) as exc:
            raise Refused("forbidden", "The command carries no readable claim of who sends it.") from exc
        if content.expires < now:
            raise Refused("forbidden", "The claim of who sends this command is too old. Check the machines' clocks.")
        return content.actor

    def _digest(self, body: str) -> bytes:
        return hmac.new(self._key, body.encode("utf-8", "replace"), hashlib.sha256).digest()


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _decode(text: str) -> bytes:
    return base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
