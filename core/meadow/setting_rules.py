"""What the values of settings must be, alone and together."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from meadow.errors import SettingsError
from meadow.subjects import CLUSTER_NAME

if TYPE_CHECKING:
    from meadow.settings import Settings

LOG_LEVELS = ("debug", "info", "warning", "error", "none")
NOT_NEGATIVE = (
    "batch_wait",
    "inspect_interval",
    "max_tasks",
    "max_failed_tasks",
    "max_store_bytes",
    "max_failed_bytes",
    "max_other_bytes",
    "retention",
    "retention_failed",
    "retention_stats",
    "retention_audit",
    "stream_days",
)
RULES: tuple[tuple[Callable[["Settings"], bool], str], ...] = (
    (lambda s: 0 <= s.port <= 65535, "--port must lie between 0 and 65535, not at {0.port}."),
    (
        lambda s: CLUSTER_NAME.fullmatch(s.cluster) is not None,
        "--cluster: {0.cluster!r} is not a name of letters, digits, '-' and '_' (64 at most).",
    ),
    (lambda s: bool(s.certfile) == bool(s.keyfile), "--certfile and --keyfile are needed together."),
    (lambda s: s.logging in LOG_LEVELS, f"--logging must be one of {', '.join(LOG_LEVELS)}."),
    (lambda s: s.log_format in ("text", "json"), "--log-format must be text or json."),
    (lambda s: s.inspect_timeout > 0, "--inspect-timeout must be more than 0 ms."),
    (lambda s: s.queue_interval > 0, "--queue-interval must be more than 0 s."),
    (lambda s: 1 <= s.batch_events <= 10_000, "--batch-events must lie between 1 and 10000."),
    (
        lambda s: not s.store or s.store.startswith(("postgresql://", "postgres://")),
        "--store must be a PostgreSQL URL, as postgresql://user:password@host/database. Without it, history is a "
        "SQLite file in --data-dir.",
    ),
    (lambda s: s.field_bytes >= 1024, "--field-bytes must be 1024 or more."),
    (lambda s: s.buffer_bytes >= 1024 * 1024, "--buffer-bytes must be 1048576 or more."),
    (
        lambda s: s.spill_bytes == 0 or s.spill_bytes >= 16 * 1024 * 1024,
        "--spill-bytes must be 0, for no file, or 16777216 or more.",
    ),
    (
        lambda s: all(":" in pair and not pair.startswith(":") for pair in s.basic_auth),
        "--basic-auth takes user:password pairs, separated by commas.",
    ),
    (
        lambda s: s.broker_api is None or s.broker_api.startswith(("http://", "https://")),
        "--broker-api must be an http or https URL, such as http://guest:guest@host:15672/api/.",
    ),
    (
        lambda s: bool(s.task_runtime_metric_buckets) and _ascends(s.task_runtime_metric_buckets),
        "--task-runtime-metric-buckets must ascend.",
    ),
    (
        lambda s: not (s.auth or s.auth_provider),
        "OAuth sign-in (--auth, --auth-provider) is not part of this release. Nothing was opened. "
        "Use --basic-auth, or leave these options out.",
    ),
)
"""What must hold, and what is said of the settings (`{0}`) where it does not."""


def check(settings: "Settings") -> None:
    """Raise `SettingsError` for values that make no sense, alone or together."""
    for name in NOT_NEGATIVE:
        value = getattr(settings, name)
        if value is not None and value < 0:
            raise SettingsError(f"{option_name(name)} cannot be negative.")
    for holds, message in RULES:
        if not holds(settings):
            raise SettingsError(message.format(settings))


def _ascends(numbers: tuple[float, ...]) -> bool:
    return list(numbers) == sorted(set(numbers))


def option_name(name: str) -> str:
    """How a setting is written on the command line.

    >>> option_name("nats_url")
    '--nats-url'
    """
    return "--" + name.replace("_", "-")
