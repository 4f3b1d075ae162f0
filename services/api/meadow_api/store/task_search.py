"""How the tasks are found that match a search, a page at a time, without reading the whole table if possible.

Three ways, from the best to the last:

* **by few**: an index (of texts, of a name, of a time …) says that at most some thousand tasks can match: these are
  looked at and sorted;
* **by branches**: for states, names and workers in the order of their arrival, an index has the answer in order; where
  several values match, their answers are merged;
* **by walking** along the index of the order, a stretch at a time, until the page is full or time is up: then the page
  is partial, and says where to go on.
"""

import contextlib
import itertools
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Select, bindparam, func, select, union_all
from sqlalchemy import text as sql_text

from meadow_api.search.conditions import LOOKED_UP, Scope, bounds, column, condition, matches
from meadow_api.search.text_index import Snapshot, State, TextIndex
from meadow_api.search.tree import All, Marked, Node, Not, Pair, Range, Some, Text
from meadow_api.search.trigrams import INDEXED, expression
from meadow_api.store import schema
from meadow_api.store.branches import Branch, statement_of_page
from meadow_api.store.listed import is_one_of
from meadow_api.store.schema import NO_TEXT, tasks
from meadow_api.store.task_order import Order, Place, unindexed_text
from meadow_api.store.text_marks import changed_since, newest_row, read_claim

FEW = 4000
MOST_SORTED = 300_000
MOST_UNINDEXED = 50_000
MOST_BRANCHES = 16
FIRST_STRETCH, LONGEST_STRETCH = 1000, 32_000
SECONDS = 5.0
SHORT_WALK = 0.1
INDEX_SECONDS = 2.0

INDEXED_MEASURES = ("received", "started", "finished", "runtime")


@dataclass(frozen=True)
class Found:
    """Rows in order. Time was up when `partial`; everything up to `reached` was looked at."""

    rows: list[Any]
    partial: bool = False
    reached: Place | None = None


@dataclass
class TaskSearch:
    """One search in one cluster: whole values that `pins` demands, and a tree. `begun` and `seconds` bound its time.

    `wanted` are the columns of the rows that it gives: those of the order, with the row number, are among them.
    """

    connection: Connection
    cluster: int
    pins: dict[str, str]
    node: Node | None
    snapshot: Snapshot | None = None
    now: float = 0.0
    seconds: float = SECONDS
    wanted: Sequence[Column[Any]] = (tasks.c.id,)
    begun: float = field(default_factory=time.monotonic)
    _values: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.scope = Scope(self.now, self.connection.dialect.name, self.values)
        self.conjuncts = self.node.parts if isinstance(self.node, All) else () if self.node is None else (self.node,)
        self.of_cluster = tasks.c.cluster == self.cluster

    @cached_property
    def of_cluster_unindexed(self) -> ColumnElement[bool]:
        """Of the cluster, written so that no index of it looks useful."""
        return tasks.c.cluster + 0 == self.cluster

    @cached_property
    def _rows(self) -> Select[Any]:
        return select(*self.wanted)

    @cached_property
    def exact(self) -> list[ColumnElement[bool]]:
        """All that is demanded, as conditions that make no index look useful."""
        found = [unindexed_text(column(name)) == value for name, value in self.pins.items()]
        return found if self.node is None else [*found, condition(self.node, self.scope)]

    def page(self, order: Order, most: int) -> Found:
        """The first `most` rows that match, in order."""
        few = self._few_by_text()
        if few is not None:
            return Found(self.among(few, order, most))
        branches = self._branches(order)
        if branches is not None:
            return Found(self._merged(branches, order, most))
        few = self._few_by_index(order)
        if few is not None:
            return Found(self.among(few, order, most))
        if self.connection.dialect.name != "sqlite" and self._has_text():
            # PostgreSQL knows how rare a text is, and chooses between its trigrams and the order.
            statement = order.apply(self._rows.where(self.of_cluster, *self.exact)).limit(most)
            return Found(list(self.connection.execute(statement).all()))
        return self._walk_or_sort(order, most)

    def few(self, order: Order | None = None) -> list[int] | None:
        """The row numbers of all tasks that can match, if an index says that they are few."""
        found = self._few_by_text()
        return self._few_by_index(order) if found is None else found

    def values(self, name: str) -> Sequence[str]:
        """All values of a short field, in order."""
        known = self._values.get(name)
        if known is None:
            known = self._values[name] = distinct(self.connection, self.cluster, column(name))
        return known

    def among(self, ids: Sequence[int], order: Order, most: int) -> list[Any]:
        """Those of these rows that match, in order."""
        if not ids:
            return []
        statement = self._rows.where(is_one_of(self.connection, ids), self.of_cluster_unindexed, *self.exact)
        return list(self.connection.execute(order.apply(statement).limit(most)).all())

    # -- by few ---------------------------------------------------------------------------------------------------

    def _few_by_text(self) -> list[int] | None:
        """What the text index says, with what it does not know yet."""
        if self.snapshot is None or self.node is None:
            return None
        wanted = expression(self.node, self.values)
        if wanted is None:
            return None
        try:
            found = self.snapshot.find(wanted, FEW + 1)
        except sqlite3.OperationalError:  # it took too long, or asks for more than FTS5 takes: walking has to do
            return None
        if len(found) > FEW:
            return None
        later = self._not_in(self.snapshot.state)
        return None if later is None else found + later

    def _not_in(self, state: State) -> list[int] | None:
        """The tasks that may match and that the text index does not know, or not as they are now; `None`: too many."""
        claim = read_claim(self.connection)
        if claim is None or claim.identity != state.identity:
            return None
        known = min(state.position, claim.position)
        if newest_row(self.connection) - known > MOST_UNINDEXED:
            return None
        marked = changed_since(self.connection, state.marks, FEW + 1)
        later = select(tasks.c.id).where(tasks.c.id > known, self.of_cluster_unindexed, *self.exact)
        found = [*marked, *self.connection.execute(later.limit(FEW + 1)).scalars()]
        return found if len(found) <= FEW else None

    def _few_by_index(self, order: Order | None) -> list[int] | None:
        """What one of the table's own indexes says."""
        for conditions in self._narrowing(order):
            statement = select(tasks.c.id).where(self.of_cluster, *conditions).limit(FEW + 1)
            found = list(self.connection.execute(statement).scalars())
            if len(found) <= FEW:
                return found
        return None

    def _narrowing(self, order: Order | None) -> Iterator[Sequence[ColumnElement[bool]]]:
        """Conditions that an index can answer alone, the most promising first."""
        for node in self.conjuncts:
            if isinstance(node, Text) and node.whole and node.fields in (("uuid",), ("root",), ("parent",)):
                if len(node.parts) == 1:
                    yield [condition(node, self.scope)]
            elif node == Marked("lost"):
                yield [condition(node, self.scope)]
        pinned = [column(name).in_(values) for name, values in self._pinned().items()]
        if pinned:
            yield pinned
        for node in self.conjuncts:
            if isinstance(node, Range) and node.field in INDEXED_MEASURES and not _leads(order, node.field):
                yield list(self._limit(_INDEXED_COLUMNS[node.field], node))

    # -- by branches ----------------------------------------------------------------------------------------------

    def _pinned(self) -> dict[str, list[str]]:
        """The fields that an index knows, with the values that they may have."""
        found = {name: [value] for name, value in self.pins.items() if name in LOOKED_UP}
        for node in self.conjuncts:
            text = looked_up(node)
            if text is not None:
                name, wanted = text.fields[0], text is node
                among = found.get(name, self.values(name) if wanted else [NO_TEXT, *self.values(name)])
                found[name] = [value for value in among if matches(text, value) is wanted]
        return found

    def _branches(self, order: Order) -> list[Branch] | None:
        """What an index answers in order, and what together is the search."""
        if not self.pins and self.node is None:
            return [Branch()]
        if order.columns[0] is not tasks.c.received or set(self.pins) - set(LOOKED_UP):
            return None
        limits = self._limits(order)
        for node in self.conjuncts:
            if isinstance(node, Range) and node.field == "received":
                limits.append(condition(node, self.scope))
            elif looked_up(node) is None:
                return None
        pinned = self._pinned()
        count = 1
        for values in pinned.values():
            count *= len(values)
        if count > MOST_BRANCHES:
            return None
        combinations = itertools.product(*pinned.values())
        return [Branch(dict(zip(pinned, values, strict=True)), tuple(limits)) for values in combinations]

    def _merged(self, branches: Sequence[Branch], order: Order, most: int) -> list[Any]:
        if not branches:
            return []
        if len(branches) == 1:
            return self._only(branches[0], order, most)
        each = [select(*order.columns).where(self.of_cluster, *branch.conditions) for branch in branches]
        if self.connection.dialect.name != "sqlite":
            firsts = [order.apply(statement).limit(most).subquery() for statement in each]
            each = [select(*first.c) for first in firsts]
        elif order.after is not None:  # SQLite merges them by itself, row by row
            each = [statement.where(order.behind(order.after)) for statement in each]
        merged = union_all(*each)
        keys = [merged.selected_columns[key.name] for key in order.columns]
        ordered = merged.order_by(*(key.desc() if order.descending else key.asc() for key in keys)).limit(most)
        return self._rows_of([row[-1] for row in self.connection.execute(ordered)])

    def _only(self, branch: Branch, order: Order, most: int) -> list[Any]:
        if branch.limits:
            statement = self._rows.where(self.of_cluster, *branch.conditions)
            return list(self.connection.execute(order.apply(statement).limit(most)).all())
        after = order.after or ()
        statement = statement_of_page(
            tuple(self.wanted), order.columns, order.descending, len(after), tuple(branch.values)
        )
        given = {f"after_{number}": value for number, value in enumerate(after)}
        given |= {f"is_{name}": value for name, value in branch.values.items()}
        return list(self.connection.execute(statement, {**given, "of_cluster": self.cluster, "most": most}).all())

    def _rows_of(self, ids: Sequence[int]) -> list[Any]:
        """The rows with these numbers, in this order."""
        if not ids:
            return []
        found = self.connection.execute(self._rows.where(is_one_of(self.connection, ids))).all()
        rows = {row.id: row for row in found}
        return [rows[id] for id in ids]

    # -- by walking -----------------------------------------------------------------------------------------------

    def _walk_or_sort(self, order: Order, most: int) -> Found:
        """What matches may stand at the far end of the order: then it is better to collect and sort it."""
        narrowing = next(iter(self._narrowing(order)), None)
        if narrowing is None or self.connection.dialect.name != "sqlite":
            return self._walk(order, most, self.seconds)
        found = self._walk(order, most, min(SHORT_WALK, self.seconds))
        if not found.partial:
            return found
        counted = select(tasks.c.id).where(self.of_cluster, *narrowing).limit(MOST_SORTED).subquery()
        if self.connection.execute(select(func.count()).select_from(counted)).scalar_one() == MOST_SORTED:
            return self._walk(order, most, self.seconds)
        statement = select(*order.columns).where(self.of_cluster, *narrowing, *self.exact)
        places = self.connection.execute(order.unindexed(statement).limit(most)).all()
        return Found(self._rows_of([place[-1] for place in places]))

    def _walk(self, order: Order, most: int, seconds: float) -> Found:
        """Stretch by stretch, so that time can be watched, and the place told where it was up."""
        rows: list[Any] = []
        for stretch, end in self._stretches(order):
            statement = self._rows.where(self.of_cluster, *self._limits(order), *self.exact)
            if end is not None:
                statement = statement.where(order.until(end))
            rows += self.connection.execute(stretch.apply(statement).limit(most - len(rows))).all()
            if len(rows) >= most or end is None:
                break
            if time.monotonic() - self.begun > seconds:
                return Found(rows, partial=True, reached=end)
        return Found(rows)

    def count(self, most: int) -> int:
        """How many tasks match, counted up to `most`, and as far as time allows."""
        few = self.few()
        if few is not None:
            matching = select(tasks.c.id).where(is_one_of(self.connection, few), self.of_cluster_unindexed, *self.exact)
            return min(most, len(self.connection.execute(matching).all())) if few else 0
        order = Order((tasks.c.received, tasks.c.id), descending=True)
        counted = 0
        for stretch, end in self._stretches(order):
            matching = select(tasks.c.id).where(self.of_cluster, *self._limits(order), *self.exact)
            if end is not None:
                matching = matching.where(order.until(end))
            if stretch.after is not None:
                matching = matching.where(stretch.behind(stretch.after))
            some = matching.limit(most - counted).subquery()
            counted += int(self.connection.execute(select(func.count()).select_from(some)).scalar_one())
            if counted >= most or time.monotonic() - self.begun > self.seconds:
                break
        return counted

    def _stretches(self, order: Order) -> Iterator[tuple[Order, Place | None]]:
        """Where each stretch begins and ends, longer and longer ones; `None` as its end: that is the rest."""
        length = FIRST_STRETCH
        while True:
            statement = select(*order.columns).where(self.of_cluster, *self._limits(order))
            row = self.connection.execute(order.apply(statement).offset(length - 1).limit(1)).first()
            end = None if row is None else tuple(row)
            yield order, end
            if end is None:
                return
            order = Order(order.columns, order.descending, end)
            length = min(4 * length, LONGEST_STRETCH)

    def _limits(self, order: Order) -> list[ColumnElement[bool]]:
        """Between what the walk goes: the demands on the order's own column."""
        ranges = [node for node in self.conjuncts if isinstance(node, Range) and _leads(order, node.field)]
        return [limit for node in ranges for limit in self._limit(order.columns[0], node)]

    def _limit(self, value: Column[Any], node: Range) -> Iterator[ColumnElement[bool]]:
        low, high = bounds(node, self.now)
        if low is not None:
            yield value >= low[0]
        if high is not None:
            yield value <= high[0]

    def _has_text(self) -> bool:
        def has(node: Node) -> bool:
            if isinstance(node, Text):
                return any(name in INDEXED for name in node.fields)
            return isinstance(node, Pair) or (isinstance(node, All | Some) and any(has(part) for part in node.parts))

        return self.node is not None and has(self.node)


def looked_up(node: Node) -> Text | None:
    """The demand on a name, worker or state that the node is, or denies."""
    text = node.part if isinstance(node, Not) else node
    return text if isinstance(text, Text) and len(text.fields) == 1 and text.fields[0] in LOOKED_UP else None


def _leads(order: Order | None, measure: str) -> bool:
    """Whether the order's first column is that field."""
    return order is not None and measure in INDEXED_MEASURES and order.columns[0] is _INDEXED_COLUMNS[measure]


_INDEXED_COLUMNS = {
    "received": tasks.c.received,
    "started": tasks.c.started,
    "finished": tasks.c.timestamp,
    "runtime": tasks.c.runtime,
}


def find_cluster(connection: Connection, name: str) -> int | None:
    """The cluster's number, `None` when nothing is known of it. It never gets another."""
    known: dict[str, int] = connection.info.setdefault("clusters", {})  # kept for as long as the database connection
    if name not in known:
        found = connection.execute(_CLUSTER, {"name": name}).scalar()
        if found is None:
            return None
        known[name] = found
    return known[name]


_CLUSTER = select(schema.clusters.c.id).where(schema.clusters.c.name == bindparam("name"))


@contextlib.contextmanager
def text_snapshot(connection: Connection, node: Node | None) -> Iterator[Snapshot | None]:
    """The text index as it is now, if the search can use it. Take it before anything is read from the store."""
    index: TextIndex | None = connection.get_execution_options().get("text_index")
    if index is None or node is None:
        yield None
        return
    with index.snapshot(INDEX_SECONDS) as snapshot:
        yield snapshot


def distinct(connection: Connection, cluster: int, values: Column[Any], most: int = 10_000) -> list[str]:
    """The different values of an indexed column in order, without reading every row: from one to the next."""
    return list(connection.execute(_DISTINCT[values.name], {"cluster": cluster, "most": most}).scalars())


_DISTINCT = {
    name: sql_text(
        f"WITH RECURSIVE known(value) AS (SELECT min({name}) FROM tasks WHERE cluster = :cluster AND {name} > '' "  # noqa: S608
        f"UNION ALL SELECT (SELECT min({name}) FROM tasks WHERE cluster = :cluster AND {name} > known.value) "
        "FROM known WHERE known.value IS NOT NULL) SELECT value FROM known WHERE value IS NOT NULL LIMIT :most"
    )
    for name in LOOKED_UP
}
