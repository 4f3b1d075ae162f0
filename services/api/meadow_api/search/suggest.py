"""What may come next in a search that is being written: fields, states, names, workers, queues, keys, times."""

import re
from collections.abc import Callable, Iterable, Sequence

from sqlalchemy import Connection, select, text

from meadow.queries import Suggestion, Suggestions
from meadow_api.search.functions import keys_of
from meadow_api.search.terms import FIELDS
from meadow_api.search.tree import COUNTS, DURATIONS, LONG_TEXTS, MARKS, TIMES, quoted
from meadow_api.store.schema import tasks
from meadow_api.store.task_search import distinct, find_cluster

MOST = 20
LONGEST = 2048
RECENT = 100

_WORD = re.compile(r'-*((?:"(?:\\["\\]|[^"])*"?|[^\s()"])*)\Z')
_REST = re.compile(r'[^\s()"]*')
_HELP = {
    "name": "the task's name: a part of it, or a pattern as proj.*",
    "worker": "the worker's node name",
    "queue": "the queue it was sent to",
    "state": "the whole state, as FAILURE",
    "uuid": "the task's id",
    "root": "the id of the first task of its workflow",
    "parent": "the id of the task that sent it",
    "args": "in the positional arguments",
    "kwargs": "in the keyword arguments",
    "kwargs.": "one keyword argument, as kwargs.user_id:42",
    "result": "in the result",
    "exception": "in the exception",
    "traceback": "in the traceback",
    "runtime": "how long it ran, as >5 or 1..5m",
    "wait": "from being sent (or received) to its start",
    "retries": "how often it was tried again",
    "sent": "when it was sent, as >-1h or 2026-11-20",
    "received": "when a worker received it, as >-1h",
    "started": "when it started",
    "finished": "when it ended",
    "eta": "when it was to run, as <+1h",
    "is": "is:lost or is:retried",
}
_TIME_VALUES = (">-5m", ">-1h", ">-1d", "today", "yesterday", "<-1d")
_DURATION_VALUES = (">1", ">10", ">1m", "<100ms", "1..10")


def suggest(connection: Connection, cluster_name: str, query: str, position: int) -> Suggestions:
    """What may stand where the cursor is, best first."""
    query = query[:LONGEST]
    position = min(max(position, 0), len(query))
    start, end, written = word_at(query, position)
    field, colon, value = written.partition(":")
    if not colon:
        return Suggestions(start=start, end=end, suggestions=_first(connection, cluster_name, written)[:MOST])
    known = _values(connection, cluster_name, field.lower())
    found = [
        Suggestion(text=f"{field}:{quoted(choice) if kind == 'value' else choice}", kind=kind)
        for kind, choice in matching(value.strip('"'), known)
    ]
    return Suggestions(start=start, end=end, suggestions=found[:MOST])


def word_at(query: str, position: int) -> tuple[int, int, str]:
    """Where the word at the cursor begins and ends, without a leading `-`, and what is written of it up to there."""
    found = _WORD.search(query, 0, position)
    start = found.start(1) if found is not None else position
    rest = _REST.match(query, position)
    return start, position if rest is None else rest.end(), query[start:position]


def matching(written: str, known: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """What begins with the text, then what has it in it, case ignored."""
    folded = written.casefold()
    among = [(kind, choice) for kind, choice in known if folded in choice.casefold() and choice != written]
    return sorted(among, key=lambda pair: not pair[1].casefold().startswith(folded))


def _first(connection: Connection, cluster_name: str, written: str) -> list[Suggestion]:
    """Fields that begin so; keys of keyword arguments; operators; then names that have it in them."""
    if written.lower().startswith("kwargs."):
        keys = matching(written[len("kwargs.") :], (("key", key) for key in _keys(connection, cluster_name)))
        return [Suggestion(text=f"kwargs.{key}:", kind="key") for _, key in keys]
    fields = [name for name in (*FIELDS, "kwargs.") if name.startswith(written.lower())]
    found = [
        Suggestion(text=name if name.endswith(".") else f"{name}:", kind="field", help=_HELP[name]) for name in fields
    ]
    if written:
        found += [Suggestion(text=word, kind="operator") for word in ("AND", "OR", "NOT") if word.startswith(written)]
        names = matching(written, (("name", name) for name in _values_of(connection, cluster_name, "name")))
        found += [Suggestion(text=f"name:{quoted(name)}", kind="name") for _, name in names]
    return found


def _values(connection: Connection, cluster_name: str, field: str) -> list[tuple[str, str]]:
    if field == "is":
        return [("mark", mark) for mark in MARKS]
    if field in TIMES:
        return [("example", value) for value in _TIME_VALUES]
    if field in DURATIONS:
        return [("example", value) for value in _DURATION_VALUES]
    if field in COUNTS:
        return [("example", ">0")]
    if field in LONG_TEXTS:
        return []
    return [("value", value) for value in _values_of(connection, cluster_name, field)]


def _values_of(connection: Connection, cluster_name: str, field: str) -> Sequence[str]:
    read = _READERS.get(field)
    cluster = find_cluster(connection, cluster_name)
    return [] if cluster is None or read is None else read(connection, cluster)


def _queues(connection: Connection, cluster: int) -> Sequence[str]:
    return list(connection.execute(_QUEUES, {"cluster": cluster}).scalars())


def _keys(connection: Connection, cluster_name: str) -> Sequence[str]:
    """The keys of the keyword arguments of the tasks that came last."""
    cluster = find_cluster(connection, cluster_name)
    if cluster is None:
        return []
    newest = select(tasks.c.kwargs).where(tasks.c.cluster == cluster).order_by(tasks.c.received.desc()).limit(RECENT)
    keys = (key for kwargs in connection.execute(newest).scalars() for key in keys_of(kwargs))
    return list(dict.fromkeys(key for key in keys if not re.search(r'[\s:()"]', key)))


_QUEUES = text(
    "WITH RECURSIVE known(value) AS (SELECT min(name) FROM queue_samples WHERE cluster = :cluster UNION ALL SELECT "
    "(SELECT min(name) FROM queue_samples WHERE cluster = :cluster AND name > known.value) FROM known "
    "WHERE known.value IS NOT NULL) SELECT value FROM known WHERE value IS NOT NULL LIMIT 1000"
)
_READERS: dict[str, Callable[[Connection, int], Sequence[str]]] = {
    "state": lambda connection, cluster: distinct(connection, cluster, tasks.c.state),
    "name": lambda connection, cluster: distinct(connection, cluster, tasks.c.name),
    "worker": lambda connection, cluster: distinct(connection, cluster, tasks.c.worker),
    "queue": _queues,
}
