"""Where core reaches for what it does not know: the packages of the services, by name only."""

import importlib
from dataclasses import dataclass
from typing import Any


def room(service: str, module: str) -> Any:
    """A module of a service's package."""
    return importlib.import_module(f"meadow_{service}.{module}")


@dataclass(frozen=True)
class Role:
    """What a child process does: the module whose `build` makes it, and whether plugins have a say in it."""

    service: str
    module: str
    plugins: bool

    @property
    def room(self) -> Any:
        """The module."""
        return room(self.service, self.module)


CHILDREN = {
    "collector": Role("collector", "service", plugins=True),
    "keeper": Role("api", "keeper_process", plugins=False),
}
"""What runs as a process of its own below another one."""
