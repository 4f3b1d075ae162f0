"""Who may do what. Decided here once more, whatever a page or the api has shown."""

from dataclasses import dataclass

from meadow.access.actors import Actor
from meadow.access.gate import READ_ONLY
from meadow.commands import Command

VIEWER = "You may look, but not change anything here."


@dataclass(frozen=True)
class Refusal:
    """`code` is one of `meadow.commands.CODES`."""

    code: str
    message: str


def decide(actor: Actor, command: Command, *, read_only: bool) -> Refusal | None:
    """Why this actor may not do this, or `None`. Questions are free: they change nothing."""
    if not command.audited:
        return None
    if read_only:
        return Refusal("read-only", READ_ONLY)
    if not actor.may_command:
        return Refusal("forbidden", VIEWER)
    return None
