"""The command line: `meadow serve`, `run`, `demo`, `doctor`, `plugins`, `settings`, `store`."""

import asyncio
import dataclasses
import os
import sys
from collections.abc import Callable, Collection, Coroutine, Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import click

from meadow import __version__, logs
from meadow.composer import PORTS, SERVICES, located, plan_run, plan_serve, run
from meadow.errors import MeadowError, StartRefused
from meadow.rooms import room
from meadow.settings import ALIASES, OPTIONS, TYPES, Option, Settings, shown
from meadow.sources import Resolved, resolve

WRONG_ORDER = """Meadow is a sub-command of celery, and the app is named before it. Write

    celery -A proj flower {rest}

or, without the celery command,

    meadow serve -A proj {rest}"""


# Options may be written with underscores, as in Flower; click hands names over without their leading dashes.
CONTEXT = {
    "help_option_names": ["-h", "--help"],
    "token_normalize_func": lambda token: token.replace("_", "-"),
    "max_content_width": 110,
}


class GroupedCommand(click.Command):
    """A command whose options stand under headings in its help."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options group by group."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                groups.setdefault(getattr(parameter, "group", "Other"), []).append(record)
        for title, records in groups.items():
            with formatter.section(title):
                formatter.write_dl(records)


class SettingOption(click.Option):
    """A setting as an option. Its value stays text here; `meadow.setting_values.parse` reads it, as for files."""

    def __init__(self, name: str, option: Option) -> None:
        self.group = option.group
        names = [f"--{n.replace('_', '-')}" for n in (name, *option.aliases)]
        if option.short:
            names.insert(0, option.short)
        help_text = option.help if option.moot is None else f"Has no effect: {option.moot}."
        flag: dict[str, Any] = {"is_flag": False, "flag_value": "true"} if TYPES[name] is bool else {}
        super().__init__([*names, name], default=None, type=str, metavar=_metavar(name), help=help_text, **flag)


def _metavar(name: str) -> str:
    annotation = str(TYPES[name])
    for kind, shown_as in (("bool", "[BOOL]"), ("tuple", "LIST"), ("int", "INT"), ("float", "NUMBER")):
        if kind in annotation:
            return shown_as
    return "TEXT"


def settings_options(
    *, without: frozenset[str] = frozenset(), only: Collection[str] | None = None
) -> list[click.Parameter]:
    """An option for every setting that a command line can carry."""
    chosen = [n for n, option in OPTIONS.items() if not option.file_only and n not in without]
    if only is not None:
        chosen = [name for name in chosen if name in only]
    return [SettingOption(name, OPTIONS[name]) for name in chosen]


def given_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of click's parameters that are settings and were given."""
    return {name: value for name, value in values.items() if name in OPTIONS and value is not None}


def from_command_line(values: Mapping[str, Any], **defaults: Any) -> Resolved:
    """The settings in force, with their origin. Changes to --workdir first, as celery does."""
    directory = values.get("workdir")
    if directory:
        try:
            os.chdir(directory)
        except OSError as exc:
            raise StartRefused(f"--workdir {directory} cannot be entered: {exc.strerror}.") from exc
    return resolve(given_settings(values), os.environ, Path.cwd(), **defaults)


def refuse_words(words: tuple[str, ...]) -> None:
    """Words that are no options: most likely an option without its dashes."""
    if not words:
        return
    word = words[0]
    name = word.partition("=")[0].replace("-", "_")
    hint = f" Did you mean --{word}?" if name in OPTIONS or name in ALIASES else ""
    raise click.UsageError(f"{word!r} is not understood here.{hint}")


def guarded(work: Callable[[], None]) -> None:
    """Run a command; what Meadow refuses becomes one line and an exit code."""
    try:
        work()
    except StartRefused as exc:
        click.echo(f"Error: {exc}", err=True)
        sys.exit(exc.exit_code)
    except MeadowError as exc:
        click.echo(f"Error: {exc}", err=True)
        sys.exit(1)


def serve_with(settings: Settings, celery_app: Any = None) -> None:
    """Run everything on one port until a signal comes."""
    logs.configure(settings)
    asyncio.run(run(plan_serve(settings, celery_app)))


def _refuse_app(context: click.Context, parameter: click.Parameter, app: str | None) -> None:
    if app is not None:
        raise click.UsageError(f"The app is named after the command. Write: meadow serve -A {app}")


@click.group(context_settings=CONTEXT)
@click.version_option(__version__, prog_name="meadow")
@click.option("-A", "--app", hidden=True, is_eager=True, expose_value=False, callback=_refuse_app)
def main() -> None:
    """Meadow, the monitor and control room for Celery clusters."""


def _serve(words: tuple[str, ...], **values: Any) -> None:
    """Run everything on one port.

    Settings also come from meadow.toml (or flowerconfig.py) and from MEADOW_* (and FLOWER_*) variables.
    """

    def work() -> None:
        refuse_words(words)
        serve_with(from_command_line(values).settings)

    guarded(work)


def _run(services: tuple[str, ...], **values: Any) -> None:
    """Run some services in a process of their own: collector, api, web, controller, metrics.

    All processes need the same --nats-url. Without --port, a service listens on a port of its own: web 5555,
    api 5556, metrics 5557, controller 5558, collector 5559; several in one process share the first one's.
    """

    def work() -> None:
        default_port = PORTS[services[0]]
        settings = from_command_line(values, port=default_port).settings
        logs.configure(settings)
        asyncio.run(run(plan_run(settings, services)))

    guarded(work)


def _settings(words: tuple[str, ...], **values: Any) -> None:
    """Print every setting in force and where it comes from. Secrets are stars."""

    def work() -> None:
        refuse_words(words)
        found = from_command_line(values)
        width = max(len(name) for name in OPTIONS)
        for name in OPTIONS:
            value = shown(name, getattr(found.settings, name))
            click.echo(f"{name:{width}}  {value or '-':40}  {found.origin[name]}")

    guarded(work)


def _doctor(words: tuple[str, ...], **values: Any) -> None:
    """Check the broker, the events, NATS and the store, and say what is wrong and how to mend it."""
    from meadow.doctor import examine

    def work() -> None:
        refuse_words(words)
        resolved = from_command_line(values)
        logs.configure(dataclasses.replace(resolved.settings, logging="none"))
        well = asyncio.run(examine(resolved.settings, click.echo))
        if not well:
            sys.exit(1)

    guarded(work)


def _demo(words: tuple[str, ...], **values: Any) -> None:
    """A self-contained show: a Celery app with workers, traffic that succeeds, fails, retries and hangs."""

    def work() -> None:
        refuse_words(words)
        room("demo", "run").main(from_command_line(values).settings)

    guarded(work)


def _plugins() -> None:
    """List the installed plugins, what they add, and what is wrong with them."""
    from meadow import plugins

    _, statuses = plugins.load()
    for status in statuses:
        adds = ", ".join(status.hooks) if status.error is None else f"FAILED: {status.error}"
        click.echo(f"{status.name:16} {status.module:24} {status.distribution:12} {adds}")
    if any(status.error for status in statuses):
        sys.exit(1)


@main.group("store", context_settings=CONTEXT)
def store() -> None:
    """Look after the task store: check, prune, export, import, migrate.

    The store is found as 'meadow serve' finds it: by --store, by --data-dir, or by the app and its broker.
    """


STORE_SETTINGS = (
    *("app", "broker", "workdir", "cluster", "nats_url", "data_dir", "store", "conf", "logging", "log_format"),
    *("max_tasks", "max_failed_tasks", "max_store_bytes", "max_failed_bytes", "max_other_bytes"),
    *("retention", "retention_failed", "retention_stats", "retention_audit"),
)


def _in_store(values: Mapping[str, Any], work: Callable[[Any, Settings], Coroutine[Any, Any, object]]) -> None:
    """Run one of the api's commands on the store that the settings name; a command that gives False failed."""

    def run_it() -> None:
        settings = located(from_command_line(values).settings)
        logs.configure(settings)
        os.umask(0o077)  # what is written holds what tasks carry
        if asyncio.run(work(room("api", "store_commands"), settings)) is False:
            sys.exit(1)

    guarded(run_it)


def _store_check(**values: Any) -> None:
    """Say what the store holds and whether it is sound. Works beside a running Meadow."""
    _in_store(values, lambda commands, settings: commands.check(settings, click.echo))


def _store_prune(dry_run: bool, **values: Any) -> None:
    """Delete what is too old or too much, as a running Meadow does by itself."""
    _in_store(values, lambda commands, settings: commands.prune(settings, click.echo, dry_run=dry_run))


def _store_export(file: BinaryIO, **values: Any) -> None:
    """Write tasks with their attempts, workers and audit records as lines of JSON into FILE (- for standard output).

    Works beside a running Meadow.
    """
    say = partial(click.echo, err=True)
    _in_store(values, lambda commands, settings: commands.export(settings, say, file))


def _store_import(file: BinaryIO, **values: Any) -> None:
    """Merge what 'meadow store export' wrote into the store. Reading the same FILE again changes nothing."""
    _in_store(values, lambda commands, settings: commands.import_(settings, click.echo, file))


def _store_migrate(**values: Any) -> None:
    """Bring the tables to this release's schema, as starting Meadow does."""
    _in_store(values, lambda commands, settings: commands.migrate(settings, click.echo))


def _words() -> click.Argument:
    return click.Argument(["words"], nargs=-1, metavar="")


def _command(
    name: str,
    callback: Callable[..., None],
    *extra: click.Parameter,
    settings: bool = True,
    group: click.Group = main,
    only: Collection[str] | None = None,
) -> None:
    parameters = [*extra, *(settings_options(only=only) if settings else [])]
    group.add_command(
        GroupedCommand(name, callback=callback, params=parameters, help=callback.__doc__, context_settings=CONTEXT)
    )


_command("serve", _serve, _words())
_command("run", _run, click.Argument(["services"], nargs=-1, required=True, type=click.Choice(SERVICES)))
_command("demo", _demo, _words())
_command("doctor", _doctor, _words())
_command("plugins", _plugins, settings=False)
_command("settings", _settings, _words())
_command("check", _store_check, group=store, only=STORE_SETTINGS)
_command(
    "prune",
    _store_prune,
    click.Option(["--dry-run"], is_flag=True, help="Only say how much would go; works beside a running Meadow."),
    group=store,
    only=STORE_SETTINGS,
)
_command("export", _store_export, click.Argument(["file"], type=click.File("wb")), group=store, only=STORE_SETTINGS)
_command("import", _store_import, click.Argument(["file"], type=click.File("rb")), group=store, only=STORE_SETTINGS)
_command("migrate", _store_migrate, group=store, only=STORE_SETTINGS)


def flower_script() -> NoReturn:
    """The program `flower`, which never was one: it shows how to write the command line."""
    rest = [word for word in sys.argv[1:] if word not in ("-A", "--app")]
    if len(rest) < len(sys.argv[1:]) and rest:
        rest = rest[1:]
    click.echo("Error: " + WRONG_ORDER.format(rest=" ".join(rest)).rstrip(), err=True)
    sys.exit(2)


if __name__ == "__main__":
    main()
