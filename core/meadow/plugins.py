"""Finding, loading and naming plugins."""

import logging
from dataclasses import dataclass
from importlib.metadata import entry_points

import pluggy

from meadow import hookspecs

log = logging.getLogger(__name__)

GROUP = "meadow.plugins"


@dataclass(frozen=True)
class PluginStatus:
    """One entry point: where it comes from, which hooks it implements, and why it failed if it did."""

    name: str
    module: str
    distribution: str
    hooks: tuple[str, ...] = ()
    error: str | None = None


def none() -> pluggy.PluginManager:
    """No plugins, for a process in which they have no say."""
    manager = pluggy.PluginManager("meadow")
    manager.add_hookspecs(hookspecs)
    return manager


def load() -> tuple[pluggy.PluginManager, list[PluginStatus]]:
    """All installed plugins. One that cannot be imported, or implements a hook that does not exist, is left out
    with its error in its status and in the log; the others work on."""
    manager = none()
    statuses = []
    for entry in sorted(entry_points(group=GROUP), key=lambda e: e.name):
        distribution = entry.dist.name if entry.dist is not None else "unknown"
        try:
            module = entry.load()
            manager.register(module, name=entry.name)
            manager.check_pending()
        except Exception as exc:
            if manager.has_plugin(entry.name):
                manager.unregister(name=entry.name)
            log.exception(
                "The plugin %s could not be loaded and is left out.", entry.name, extra={"action": "plugin.failed"}
            )
            error = f"{type(exc).__name__}: {exc}"
            statuses.append(PluginStatus(entry.name, entry.value, distribution, error=error))
            continue
        hooks = tuple(sorted(caller.name for caller in manager.get_hookcallers(module) or ()))
        statuses.append(PluginStatus(entry.name, entry.value, distribution, hooks))
    return manager, statuses
