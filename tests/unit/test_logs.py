"""Log lines: one record is one line, whatever it carries."""

import json
import logging
from typing import Any

from meadow.logs import JsonFormatter, TextFormatter


def record(message: str, **extra: Any) -> logging.LogRecord:
    made = logging.LogRecord("meadow.x", logging.WARNING, "f.py", 1, message, None, None)
    vars(made).update(extra)
    return made


def test_extras_stand_behind_the_sentence() -> None:
    line = TextFormatter().format(record("The broker is gone.", action="broker.lost", cluster="prod"))
    assert line.endswith("WARNING The broker is gone.  action=broker.lost cluster=prod")


def test_a_line_break_in_a_message_cannot_fake_another_line() -> None:
    line = TextFormatter().format(record("name\n2026-11-22 00:00:00 INFO all well", worker="w\r2026\u2028"))
    assert len(line.splitlines()) == 1


def test_what_a_line_carries_cannot_command_a_terminal() -> None:
    line = TextFormatter().format(record("name \x1b]0;owned\x07", worker="\x9b31m"))
    assert line.endswith(r"name \x1b]0;owned\x07  worker=\x9b31m")


def test_json_holds_everything_in_one_object() -> None:
    line = JsonFormatter().format(record("Hé\nllo", action="a", data={"x": 1}))
    content = json.loads(line)
    assert "\n" not in line
    assert (content["message"], content["action"], content["data"], content["level"]) == (
        "Hé\nllo",
        "a",
        {"x": 1},
        "warning",
    )
