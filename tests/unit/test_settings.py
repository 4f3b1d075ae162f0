"""Settings: where they come from, who wins, and what stops the start."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from meadow.errors import SettingsError
from meadow.setting_values import parse
from meadow.settings import DEFAULTS, OPTIONS, Settings, shown
from meadow.sources import Resolved, resolve


def given(
    directory: Path, command_line: Mapping[str, Any] | None = None, environment: Mapping[str, str] | None = None
) -> Resolved:
    return resolve(command_line or {}, environment or {}, directory)


def test_the_command_line_wins_over_the_file_and_the_file_over_the_environment(tmp_path: Path) -> None:
    (tmp_path / "meadow.toml").write_text('port = 6001\ncluster = "from-file"\n')
    environment = {"MEADOW_PORT": "6002", "MEADOW_CLUSTER": "from-environment", "MEADOW_READ_ONLY": "yes"}
    found = given(tmp_path, {"port": "6003"}, environment)
    assert (found.settings.port, found.settings.cluster, found.settings.read_only) == (6003, "from-file", True)
    assert found.origin["port"] == "command line"
    assert found.origin["cluster"] == "file (meadow.toml)"
    assert found.origin["read_only"] == "environment (MEADOW_READ_ONLY)"
    assert found.origin["address"] == "default"


def test_flowers_variables_are_read_and_meadows_win(tmp_path: Path) -> None:
    assert given(tmp_path, environment={"FLOWER_PORT": "6005"}).settings.port == 6005
    both = {"FLOWER_PORT": "6005", "MEADOW_PORT": "6006"}
    assert given(tmp_path, environment=both).settings.port == 6006


def test_flowerconfig_is_read_as_flower_reads_it(tmp_path: Path) -> None:
    (tmp_path / "flowerconfig.py").write_text(
        "import os\nport = 6010\nbasic_auth = ['a:b', 'c:d']\nhelper = os.sep\n"
        "def format_task(task):\n    task.args = 'hidden'\n    return task\n"
    )
    settings = given(tmp_path).settings
    assert (settings.port, settings.basic_auth) == (6010, ("a:b", "c:d"))
    assert settings.format_task is not None
    assert not list(tmp_path.glob("__pycache__"))


@pytest.mark.parametrize(
    ("command_line", "environment", "says"),
    [
        ({"port": "high"}, {}, "--port: 'high' is not a whole number"),
        ({"port": "65536"}, {}, "between 0 and 65535"),
        ({"debug": "maybe"}, {}, "--debug: 'maybe' is not true or false"),
        ({"certfile": "a.pem"}, {}, "needed together"),
        ({"basic_auth": "nopassword"}, {}, "user:password"),
        ({"broker_api": "amqp://host"}, {}, "http or https"),
        ({"task_runtime_metric_buckets": "1,3,2"}, {}, "must ascend"),
        ({"cluster": "two words"}, {}, "not a name"),
        ({"auth": ".*@example.com"}, {}, "Nothing was opened"),
        ({"auth_provider": "flower.views.auth.GithubLoginHandler"}, {}, "not part of this release"),
        ({"queue_interval": "nan"}, {}, "--queue-interval: 'nan' is not a number"),
        ({"stream_days": "inf"}, {}, "--stream-days: 'inf' is not a number"),
        ({"retention": "-1"}, {}, "--retention cannot be negative"),
        ({"spill_bytes": "4096"}, {}, "--spill-bytes must be 0, for no file, or 16777216 or more"),
        ({"conf": "missing.toml"}, {}, "does not exist"),
        ({}, {"MEADOW_PROT": "1"}, "Did you mean MEADOW_PORT"),
        ({}, {"FLOWER_PORT": "tcp"}, "FLOWER_PORT: --port"),
        ({}, {"FLOWER_UNAUTHENTICATED_API": "perhaps"}, "FLOWER_UNAUTHENTICATED_API"),
    ],
)
def test_a_wrong_setting_stops_the_start_and_says_which(
    tmp_path: Path, command_line: dict[str, str], environment: dict[str, str], says: str
) -> None:
    with pytest.raises(SettingsError, match=says.replace("(", r"\(")):
        given(tmp_path, command_line, environment)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("meadow.toml", "prot = 1\n", "Did you mean port"),
        ("meadow.toml", "port = [1]\n", "not a whole number"),
        ("meadow.toml", "port = \n", "cannot be read"),
        ("flowerconfig.py", "port = 5.5\n", "not a whole number"),
        ("flowerconfig.py", "raise RuntimeError('no')\n", "RuntimeError: no"),
    ],
)
def test_a_wrong_file_stops_the_start_and_says_which(tmp_path: Path, name: str, content: str, says: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(SettingsError, match=says) as stopped:
        given(tmp_path)
    assert name in str(stopped.value)


def test_what_kubernetes_sets_for_a_service_of_that_name_is_no_setting(tmp_path: Path) -> None:
    environment = {
        "FLOWER_PORT": "tcp://10.0.0.1:5555",
        "MEADOW_PORT": "tcp://10.0.0.1:5555",
        "MEADOW_SERVICE_HOST": "10.0.0.1",
        "MEADOW_SERVICE_PORT_HTTP": "5555",
        "MEADOW_PORT_5555_TCP_ADDR": "10.0.0.1",
    }
    assert given(tmp_path, environment=environment).settings == Settings()


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("port", "0", 0),
        ("inspect_timeout", "1.5", 1.5),
        ("basic_auth", "a:b, c:d:e,", ("a:b", "c:d:e")),
        ("task_runtime_metric_buckets", "1,2.5,inf", (1.0, 2.5, float("inf"))),
        ("purge_offline_workers", "0", 0),
        ("persistent", "True", True),
        ("auto_refresh", "off", False),
    ],
)
def test_text_becomes_the_settings_type(name: str, text: str, value: object) -> None:
    assert parse(name, text) == value


def test_secrets_are_never_shown() -> None:
    for name, option in OPTIONS.items():
        if option.secret:
            assert shown(name, ("user:hunter2",) if isinstance(DEFAULTS[name], tuple) else "hunter2") == "***"


def test_without_sign_in_meadow_listens_on_this_machine_only() -> None:
    assert Settings().listen_address == "127.0.0.1"
    assert Settings(basic_auth=("a:b",)).listen_address is None
    assert Settings(address="10.1.2.3").listen_address == "10.1.2.3"


@pytest.mark.parametrize("text", ["flower", "/flower", "/flower/", "flower/"])
def test_slashes_around_the_prefix_do_not_matter(text: str) -> None:
    assert Settings(url_prefix=text).prefix == "/flower"


FLOWERS_OPTIONS = """port address unix_socket debug inspect_timeout auth basic_auth oauth2_key oauth2_secret
oauth2_redirect_uri auth_provider cookie_secret max_workers max_tasks db persistent state_save_interval broker_api
certfile keyfile ca_certs xheaders auto_refresh purge_offline_workers conf enable_events format_task natural_time
tasks_columns url_prefix task_runtime_metric_buckets read_only logging log_to_stderr log_file_prefix log_file_max_size
log_file_num_backups log_rotate_mode log_rotate_when log_rotate_interval""".split()  # noqa: SIM905


@pytest.mark.parametrize("name", FLOWERS_OPTIONS)
def test_every_option_of_flower_is_known(name: str) -> None:
    assert OPTIONS[name].flower
