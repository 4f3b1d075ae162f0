"""Every setting of Meadow: name, type, default, help. The command line, the environment and the files all read here.

A setting comes from, in this order: the command line, a file (`meadow.toml`, or Flower's `flowerconfig.py`), the
environment (`MEADOW_<NAME>`, and for Flower's options `FLOWER_<NAME>`), its default. What is wrong or unknown stops
the start with a hint.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, get_type_hints

from meadow.setting_rules import check

CELERY = "Celery"
LISTEN = "Listening"
ACCESS = "Access"
PAGES = "Pages"
EVENTS = "Events and control"
BUS = "NATS and data"
METRICS = "Metrics"
LOGGING = "Logging"
MOOT = "Accepted for Flower's sake"


@dataclass(frozen=True)
class Option:
    """What is known of a setting besides its name, type and default.

    `flower`: Flower has it too, so `FLOWER_<NAME>` is read. `moot`: it is accepted and has no effect; the text says
    why. `file_only`: it cannot be written on a command line.
    """

    help: str
    group: str
    flower: bool = False
    secret: bool = False
    moot: str | None = None
    file_only: bool = False
    short: str | None = None
    aliases: tuple[str, ...] = ()


def setting(default: Any, help: str, group: str, **more: Any) -> Any:
    """A dataclass field that is a setting."""
    return field(default=default, metadata={"option": Option(help, group, **more)})


FLOWER_COLUMNS = ("name", "uuid", "state", "received", "runtime", "worker")
PROMETHEUS_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, float("inf"))


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings in force. Immutable; `dataclasses.replace` makes another."""

    app: str | None = setting(None, "The Celery app, as for celery -A: module, module:attribute.", CELERY, short="-A")
    broker: str | None = setting(None, "Broker URL; overrides the app's.", CELERY, short="-b", secret=True)
    result_backend: str | None = setting(None, "Result backend URL; overrides the app's.", CELERY, secret=True)
    workdir: str | None = setting(None, "Change to this directory before loading the app.", CELERY)
    cluster: str = setting("default", "Name of the cluster, as it stands in subjects and pages.", CELERY)
    broker_api: str | None = setting(
        None,
        "RabbitMQ management API, such as http://guest:guest@host:15672/api/.",
        CELERY,
        flower=True,
        secret=True,
    )

    port: int = setting(5555, "TCP port; 0 takes any free one.", LISTEN, flower=True)
    address: str | None = setting(
        None,
        "Address to listen on. Without authentication it is 127.0.0.1, with authentication all addresses.",
        LISTEN,
        flower=True,
    )
    unix_socket: str | None = setting(None, "Path of a Unix socket to listen on instead.", LISTEN, flower=True)
    url_prefix: str = setting("", "Serve everything below this path, as /flower.", LISTEN, flower=True)
    certfile: str | None = setting(None, "TLS certificate (PEM).", LISTEN, flower=True)
    keyfile: str | None = setting(None, "TLS private key (PEM).", LISTEN, flower=True)
    ca_certs: str | None = setting(
        None, "CA certificates; clients must then present a certificate signed by one of them.", LISTEN, flower=True
    )
    xheaders: bool = setting(
        False, "Trust X-Forwarded-For, X-Real-IP and X-Forwarded-Proto of a proxy.", LISTEN, flower=True
    )

    basic_auth: tuple[str, ...] = setting((), "user:password pairs, comma separated.", ACCESS, flower=True, secret=True)
    allow_anonymous: bool = setting(
        False, "Let anybody read the pages although other machines can connect. The API stays closed.", ACCESS
    )
    allowed_hosts: tuple[str, ...] = setting(
        (), "Host names by which browsers may reach this Meadow, besides localhost and the address.", ACCESS
    )
    read_only: bool = setting(False, "Refuse everything that changes something.", ACCESS, flower=True)
    unauthenticated_api: bool = setting(
        False, "Open the API and all commands although nobody signs in.", ACCESS, flower=True
    )
    cookie_secret: str | None = setting(
        None,
        "Key that signs sessions and actor claims; by default services share one over NATS.",
        ACCESS,
        flower=True,
        secret=True,
        aliases=("secret_key",),
    )
    auth: str = setting("", "Who may sign in by OAuth.", ACCESS, flower=True)
    auth_provider: str | None = setting(None, "Flower's name of the OAuth provider.", ACCESS, flower=True)
    oauth2_key: str | None = setting(None, "OAuth client id.", ACCESS, flower=True)
    oauth2_secret: str | None = setting(None, "OAuth client secret.", ACCESS, flower=True, secret=True)
    oauth2_redirect_uri: str | None = setting(None, "OAuth redirect URI.", ACCESS, flower=True)

    auto_refresh: bool = setting(True, "Keep pages live.", PAGES, flower=True)
    natural_time: bool = setting(False, "Show relative times in the task table.", PAGES, flower=True)
    tasks_columns: tuple[str, ...] = setting(
        FLOWER_COLUMNS, "Columns of the task table, in that order.", PAGES, flower=True
    )
    format_task: Callable[[Any], Any] | None = setting(
        None,
        "A function that changes a task before it is shown; a task that makes it raise is hidden.",
        PAGES,
        flower=True,
        file_only=True,
    )
    purge_offline_workers: int | None = setting(
        None, "Seconds after which an offline worker disappears from pages and metrics.", PAGES, flower=True
    )

    enable_events: bool = setting(
        True, "Ask all workers every 5 s to send events, so that those started without -E do too.", EVENTS, flower=True
    )
    inspect_timeout: float = setting(
        1000.0, "Milliseconds to wait for workers' answers to inspections.", EVENTS, flower=True
    )
    inspect_interval: float = setting(60.0, "Seconds between two inspections of all workers; 0 for none.", EVENTS)
    queue_interval: float = setting(5.0, "Seconds between two readings of the queue depths.", EVENTS)
    apply_timeout: float = setting(
        300.0, "Longest wait for a result, in seconds, when a call gives no timeout.", EVENTS
    )
    redact: tuple[str, ...] = setting(
        (), "More argument names whose values are hidden, besides password, token and the like.", EVENTS
    )
    accept_pickle: bool = setting(
        False, "Decode events that were pickled. Whoever can publish to the broker can then run code here.", EVENTS
    )
    batch_events: int = setting(1000, "Events in one message on NATS; more when many wait.", EVENTS)
    batch_wait: float = setting(25.0, "Milliseconds that an event may wait for others to share its message.", EVENTS)
    buffer_bytes: int = setting(
        64 * 1024 * 1024, "Bytes of events that the collector keeps while NATS is away.", EVENTS
    )
    spill_bytes: int = setting(
        0,
        "Bytes of events that may wait in a file in the data directory when half of --buffer-bytes is full; 0 for "
        "none. RabbitMQ needs no file: it keeps what is not stored yet.",
        EVENTS,
    )

    nats_url: str | None = setting(
        None,
        "NATS with JetStream, as nats://user:password@host:4222. By default Meadow starts its own.",
        BUS,
        secret=True,
    )
    nats_server: str | None = setting(None, "Program to start as Meadow's own NATS.", BUS)
    data_dir: str | None = setting(
        None, "Directory of the streams and the task store. By default below ~/.local/state/meadow.", BUS
    )
    store: str | None = setting(
        None,
        "PostgreSQL to keep history in, as postgresql://user:password@host/database; several Meadows may share it. "
        "By default a SQLite file in the data directory.",
        BUS,
        secret=True,
    )
    max_tasks: int = setting(0, "Most tasks in the store, the oldest go first; 0 for no limit.", BUS, flower=True)
    max_failed_tasks: int = setting(
        0, "Most failed tasks in the store, which --max-tasks does not count then; 0 counts them as the others.", BUS
    )
    max_store_bytes: int = setting(0, "Size of the store above which the oldest tasks go; 0 for no limit.", BUS)
    max_failed_bytes: int = setting(
        0, "Bytes of failed tasks, indexes included, above which the oldest of them go; 0 for no limit.", BUS
    )
    max_other_bytes: int = setting(
        0, "Bytes of tasks that did not fail, indexes included, above which the oldest of them go; 0 for no limit.", BUS
    )
    retention: float = setting(30.0, "Days after which a task leaves the store; 0 for never.", BUS)
    retention_failed: float | None = setting(
        None, "Days after which a failed task leaves the store; 0 for never. By default as --retention.", BUS
    )
    retention_stats: float = setting(365.0, "Days that hourly statistics are kept; 0 for ever.", BUS)
    retention_audit: float = setting(0.0, "Days that the audit log is kept; 0 for ever.", BUS)
    stream_days: float = setting(7.0, "Days that facts stay in the stream.", BUS)
    stream_bytes: int = setting(8 * 1024**3, "Most bytes of facts in the stream.", BUS)
    field_bytes: int = setting(
        64 * 1024, "Most bytes kept of one argument list, result or traceback; the rest is cut, visibly.", BUS
    )

    task_runtime_metric_buckets: tuple[float, ...] = setting(
        PROMETHEUS_BUCKETS, "Buckets of the runtime histogram, in seconds.", METRICS, flower=True
    )

    debug: bool = setting(False, "Log more.", LOGGING, flower=True)
    logging: str = setting("info", "Log level: debug, info, warning, error or none.", LOGGING, flower=True)
    log_format: str = setting("text", "text, or json with one object a line.", LOGGING)
    quiet: bool = setting(False, "No banner.", LOGGING, short="-q")
    conf: str | None = setting(
        None,
        "Settings file. By default meadow.toml or flowerconfig.py in the current directory.",
        LOGGING,
        flower=True,
    )

    max_workers: int = setting(
        5000, "Flower's limit of remembered workers.", MOOT, flower=True, moot="workers are kept in the store"
    )
    db: str = setting("flower", "Flower's state file.", MOOT, flower=True, moot="history is in --data-dir")
    persistent: bool = setting(False, "Keep history.", MOOT, flower=True, moot="history is always kept")
    state_save_interval: int = setting(
        0, "Flower's interval of saving.", MOOT, flower=True, moot="everything is saved at once"
    )
    log_to_stderr: bool = setting(True, "Tornado's switch.", MOOT, flower=True, moot="logs always go to standard error")
    log_file_prefix: str | None = setting(
        None, "Tornado's log file.", MOOT, flower=True, moot="redirect standard error instead"
    )
    log_file_max_size: int = setting(100_000_000, "Tornado's.", MOOT, flower=True, moot="no log files are written")
    log_file_num_backups: int = setting(10, "Tornado's.", MOOT, flower=True, moot="no log files are written")
    log_rotate_mode: str = setting("size", "Tornado's.", MOOT, flower=True, moot="no log files are written")
    log_rotate_when: str = setting("midnight", "Tornado's.", MOOT, flower=True, moot="no log files are written")
    log_rotate_interval: int = setting(1, "Tornado's.", MOOT, flower=True, moot="no log files are written")

    def __post_init__(self) -> None:
        check(self)

    @property
    def signs_in(self) -> bool:
        """Whether anybody has to say who they are."""
        return bool(self.basic_auth or self.auth)

    @property
    def prefix(self) -> str:
        """The URL prefix as `/flower`, or the empty string."""
        bare = self.url_prefix.strip("/")
        return f"/{bare}" if bare else ""

    @property
    def listen_address(self) -> str | None:
        """Where to listen; `None` for all addresses."""
        if self.address:
            return self.address
        return None if self.signs_in else "127.0.0.1"


TYPES: dict[str, Any] = get_type_hints(Settings)
OPTIONS: dict[str, Option] = {f.name: f.metadata["option"] for f in dataclasses.fields(Settings)}
DEFAULTS: dict[str, Any] = {f.name: f.default for f in dataclasses.fields(Settings)}
ALIASES: dict[str, str] = {alias: name for name, option in OPTIONS.items() for alias in option.aliases}


def shown(name: str, value: Any) -> str:
    """The value as it may be printed: secrets are stars."""
    if OPTIONS[name].secret and value:
        return "***"
    if isinstance(value, tuple):
        return ",".join(str(part) for part in value)
    if value is None:
        return ""
    if callable(value):
        return getattr(value, "__qualname__", "a function")
    return str(value)
