"""Sign-in by HTTP basic authentication (RFC 7617): `--basic-auth=user:password,second:password`."""

import base64
import binascii
import hmac

from aiohttp import web

from meadow.access.actors import Actor
from meadow.access.sign_in import SignIn
from meadow.hookspecs import hookimpl
from meadow.settings import Settings

REALM = "flower"  # what clients of Flower have stored their passwords for


class BasicAuth:
    """Compares credentials in constant time, whatever characters they have."""

    name = "basic"

    def __init__(self, pairs: tuple[str, ...]) -> None:
        self._credentials = [pair.encode() for pair in pairs]

    async def authenticate(self, request: web.Request) -> Actor | None:
        """The user whose name and password the request carries."""
        given = credentials(request.headers.get("Authorization", ""))
        if given is None:
            return None
        matches = [hmac.compare_digest(given, known) for known in self._credentials]
        if not any(matches):
            return None
        return Actor(given.partition(b":")[0].decode("utf-8", "replace"), "user", "admin", self.name)

    def challenge(self, request: web.Request) -> web.Response:
        """401; the browser then asks for a name and a password."""
        return web.Response(
            status=401,
            text="Access denied",
            content_type="text/html",
            charset="UTF-8",
            headers={"WWW-Authenticate": f'Basic realm="{REALM}"'},
        )


def credentials(header: str) -> bytes | None:
    """`user:password` from an Authorization header, or `None`. The scheme word is exactly `Basic`, as in Flower."""
    scheme, _, encoded = header.partition(" ")
    if scheme != "Basic":
        return None
    try:
        decoded = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return None
    return decoded if b":" in decoded else None


@hookimpl
def register_sign_in(settings: Settings) -> list[SignIn]:
    """Basic authentication, where pairs are configured."""
    return [BasicAuth(settings.basic_auth)] if settings.basic_auth else []
