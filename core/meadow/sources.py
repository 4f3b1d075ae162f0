"""Where settings come from: the command line, `meadow.toml` or `flowerconfig.py`, the environment."""

import difflib
import importlib.util
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meadow.errors import SettingsError
from meadow.setting_values import parse
from meadow.settings import ALIASES, DEFAULTS, OPTIONS, Settings

TOML_NAME = "meadow.toml"
FLOWER_NAME = "flowerconfig.py"
KUBERNETES = re.compile(r".*(_SERVICE_HOST|_SERVICE_PORT(_.*)?|_PORT_\d+_.*)")
"""Variables that Kubernetes sets for a Service that happens to be called meadow or flower."""


@dataclass(frozen=True)
class Resolved:
    """The settings in force and where each one comes from."""

    settings: Settings
    origin: dict[str, str]


def resolve(
    command_line: Mapping[str, Any], environment: Mapping[str, str], directory: Path, **defaults: Any
) -> Resolved:
    """Settings from all sources; raises `SettingsError`. `defaults` replace Meadow's own."""
    values: dict[str, Any] = dict(DEFAULTS) | defaults
    origin = dict.fromkeys(values, "default")
    from_environment = read_environment(environment)
    given = {name: parse(name, value) for name, value in command_line.items() if value is not None}
    path = given.get("conf") or from_environment.get("conf", (None, ""))[0]
    for name, (value, variable) in from_environment.items():
        values[name], origin[name] = value, f"environment ({variable})"
    for name, (value, file) in read_file(path, directory).items():
        values[name], origin[name] = value, f"file ({file})"
    for name, value in given.items():
        values[name], origin[name] = value, "command line"
    return Resolved(Settings(**values), origin)


def read_environment(environment: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    """Setting name → (value, variable). An unknown `MEADOW_` variable is an error, as is a value of the wrong type."""
    found: dict[str, tuple[Any, str]] = {}
    for variable in sorted(environment, key=lambda v: v.upper().startswith("MEADOW_")):  # MEADOW_ wins
        prefix, _, rest = variable.upper().partition("_")
        if prefix not in ("MEADOW", "FLOWER") or not rest:
            continue
        name = ALIASES.get(rest.lower(), rest.lower())
        text = environment[variable]
        if KUBERNETES.fullmatch(variable) or (name == "port" and text.startswith("tcp://")):
            continue
        known = name in OPTIONS and not OPTIONS[name].file_only and (prefix == "MEADOW" or OPTIONS[name].flower)
        if known:
            found[name] = (_parse_from(variable, name, text), variable)
        elif prefix == "MEADOW":
            hint = _hint(rest.lower(), "MEADOW_", upper=True)
            raise SettingsError(f"The environment variable {variable} is no setting of Meadow.{hint}")
    return found


def read_file(path: str | None, directory: Path) -> dict[str, tuple[Any, str]]:
    """Setting name → (value, file name) from the file at `path`, or from the usual ones in `directory`."""
    if path is None:
        file = next((directory / n for n in (TOML_NAME, FLOWER_NAME) if (directory / n).is_file()), None)
        if file is None:
            return {}
    else:
        file = directory / Path(path).expanduser()
        if not file.is_file():
            if path == FLOWER_NAME:
                return {}
            raise SettingsError(f"The settings file {path} does not exist. Correct --conf.")
    content = _read_toml(file) if file.suffix == ".toml" else _read_python(file)
    return {name: (_parse_from(str(file), name, value), file.name) for name, value in content.items()}


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as exc:
        raise SettingsError(f"{file.name} cannot be read: {exc}") from exc
    named: dict[str, Any] = {}
    for key, value in content.items():
        name = ALIASES.get(key.replace("-", "_"), key.replace("-", "_"))
        if name not in OPTIONS or OPTIONS[name].file_only:
            raise SettingsError(f"{file.name}: {key!r} is no setting of Meadow.{_hint(name, '')}")
        named[name] = value
    return named


def _read_python(file: Path) -> dict[str, Any]:
    """The top-level names of Flower's configuration file that are settings; others are its own business."""
    spec = importlib.util.spec_from_file_location("flowerconfig", file)
    if spec is None or spec.loader is None:
        raise SettingsError(f"{file.name} is neither a .toml nor a .py file. Correct --conf.")
    module = importlib.util.module_from_spec(spec)
    writes_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    except Exception as exc:
        raise SettingsError(f"{file.name} cannot be run: {type(exc).__name__}: {exc}") from exc
    finally:
        sys.dont_write_bytecode = writes_bytecode
    names = {name: ALIASES.get(name, name) for name in vars(module)}
    return {name: vars(module)[key] for key, name in names.items() if name in OPTIONS}


def _parse_from(source: str, name: str, value: Any) -> Any:
    try:
        return parse(name, value)
    except SettingsError as exc:
        raise SettingsError(f"{source}: {exc}") from exc


def _hint(name: str, prefix: str, *, upper: bool = False) -> str:
    close = close_names(name, OPTIONS)
    if not close:
        return ""
    return f" Did you mean {' or '.join(prefix + (n.upper() if upper else n) for n in close)}?"


def close_names(name: str, known: Iterable[str]) -> list[str]:
    """Known names that are spelled almost like this one."""
    return difflib.get_close_matches(name, list(known), n=2, cutoff=0.7)
