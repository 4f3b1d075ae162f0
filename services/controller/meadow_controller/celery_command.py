"""`celery -A proj meadow …` and `celery -A proj flower …`: Meadow as a sub-command of celery."""

from typing import Any

import click

from meadow.cli import CONTEXT, GroupedCommand, from_command_line, guarded, refuse_words, serve_with, settings_options
from meadow.errors import SettingsError

# -A after the sub-command stays unknown: celery then shows the right order.
LATE_CELERY_OPTIONS = [
    click.Option(["--loader", "late_loader"], hidden=True),
    click.Option(["--config", "late_config"], hidden=True),
    click.Option(["-C", "--no-color", "late_no_color"], is_flag=True, hidden=True),
    click.Option(["--skip-checks", "late_skip_checks"], is_flag=True, hidden=True),
]


def _serve(ctx: click.Context, words: tuple[str, ...], **values: Any) -> None:
    """Meadow: history, live pages, remote control and metrics of this app's cluster, on one port."""

    def work() -> None:
        refuse_words(words)
        app = ctx.obj.app
        _apply_late(app, values)
        if ctx.obj.quiet:
            values["quiet"] = "true"
        serve_with(from_command_line(values).settings, app)

    guarded(work)


def _apply_late(app: Any, values: dict[str, Any]) -> None:
    """Honour Celery's own options where they were written behind the sub-command."""
    if values.get("late_loader"):
        raise SettingsError("--loader belongs before the sub-command: celery --loader=… flower …")
    if values.get("late_config"):
        app.config_from_object(values["late_config"], force=True)
    if values.get("broker"):
        app.conf.update(
            broker_url=values["broker"], broker_read_url=values["broker"], broker_write_url=values["broker"]
        )
    if values.get("result_backend"):
        app.conf.update(result_backend=values["result_backend"])


def _make(name: str) -> click.Command:
    words = click.Argument(["words"], nargs=-1, metavar="")
    return GroupedCommand(
        name,
        callback=click.pass_context(_serve),
        params=[words, *LATE_CELERY_OPTIONS, *settings_options(without=frozenset({"app"}))],
        help=_serve.__doc__,
        context_settings=CONTEXT,
    )


meadow = _make("meadow")
flower = _make("flower")
