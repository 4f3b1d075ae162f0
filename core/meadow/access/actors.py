"""Who acts: a person, a script, or nobody in particular."""

from msgspec import Struct

ROLES = ("viewer", "operator", "admin")


class Actor(Struct, frozen=True):
    """`kind` is user, token, anonymous or system; `role` one of `ROLES`; `via` the sign-in that vouches for them."""

    name: str
    kind: str = "user"
    role: str = "admin"
    via: str = ""

    @property
    def may_command(self) -> bool:
        """Whether commands are open to this actor at all."""
        return self.role != "viewer"


ANONYMOUS = Actor("anonymous", "anonymous", "admin")
"""Whoever reaches a Meadow that listens on loopback only and asks nobody to sign in."""

ANONYMOUS_READER = Actor("anonymous", "anonymous", "viewer")
"""Whoever reaches a Meadow that was opened with --allow-anonymous."""

SYSTEM = Actor("meadow", "system", "admin")
"""Meadow itself."""
