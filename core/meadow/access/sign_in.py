"""What a sign-in provider is: the contract between the gate and the plugins that know people."""

from typing import Protocol

from aiohttp import web

from meadow.access.actors import Actor


class SignIn(Protocol):
    """One way to find out who sends a request."""

    name: str

    async def authenticate(self, request: web.Request) -> Actor | None:
        """Who sends this request, or `None` when it carries no valid proof for this provider."""

    def challenge(self, request: web.Request) -> web.Response:
        """What a browser without proof is answered: a 401, or a redirection to a login page."""
