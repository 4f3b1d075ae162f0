"""Every hook that a plugin can implement, on one page.

A plugin is a module named by an entry point of the group `meadow.plugins`; its functions carry `@hookimpl`.
Hooks that begin with `register_` contribute something at the start.
"""

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from meadow.access.sign_in import SignIn
    from meadow.broker import BrokerAdapter
    from meadow.settings import Settings

hookspec = pluggy.HookspecMarker("meadow")
hookimpl = pluggy.HookimplMarker("meadow")


@hookspec
def register_broker_adapters(settings: "Settings") -> "list[BrokerAdapter]":  # type: ignore[empty-body]
    """Ways to read events and queue depths from brokers, chosen by URL scheme; the first that fits is used."""


@hookspec
def register_sign_in(settings: "Settings") -> "list[SignIn]":  # type: ignore[empty-body]
    """Ways to find out who sends a request. A plugin that is not configured returns an empty list."""
