"""The learner's tables: one transaction a batch, written by whoever took them over last."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from flows import database
from flows.learners.example import Place
from flows.learning_items import Due, Item, Position
from flows.learning_joins import DUE_RANK, Aside
from flows.learning_rows import SELECT, Line, Row, read, values
from flows.learning_tables import aside, examples, inputs, journal, learners, state, waiting
from flows.learning_versions import Versions

CHUNK = 500  # names a query
SILENT_MS = 10_000  # after which another learner may take over
REPLAYED = 5_000  # lines of the journal at a time
Positions = dict[str, Position]
_positions = msgspec.json.Decoder(Positions).decode


class TakenOver(RuntimeError):
    """Another learner writes now."""


class Held(RuntimeError):
    """Another learner is alive."""


class Snapshot(msgspec.Struct, frozen=True):
    """A learner as of a line of the journal. `report`: JSON."""

    kind: str
    place: Place
    seq: int
    state: bytes
    report: str


class Batch(msgspec.Struct):
    """What one transaction writes. `lines`: in the order in which they were learned."""

    positions: Positions
    seq: int  # of the last line of the journal before
    new: list[Row] = []
    changed: list[Row] = []
    gone: list[str] = []  # examples that ended and cannot be read any more
    lines: list[Line] = []
    aside: dict[tuple[str, str], Aside] = {}
    wait: list[dict[str, Any]] = []
    found: list[int] = []  # numbers of outcomes that wait no more
    snapshots: list[Snapshot] = []


class LearningStore:
    """Of one learner. All raise SQLAlchemy's errors."""

    def __init__(self, engine: sa.Engine, versions: Versions, owner: str = "learner") -> None:
        """`owner`: the same after a kill, so that it need not wait for itself."""
        self.engine, self.versions, self._owner = engine, versions, owner
        self._generation = self._batch = 0

    def take_over(self) -> Positions:
        """From now on nobody else writes; up to where each source is learned. Raises Held."""
        with self.engine.begin() as connection:
            database.one_by_one(connection)
            found = connection.execute(sa.select(state)).mappings().first()
            if found is None:
                new = {"id": 1, "generation": 0, "batch": 0, "positions": "{}", "owner": "", "alive_at": 0}
                connection.execute(state.insert(), new)
            elif found["owner"] != self._owner and _now() - found["alive_at"] < SILENT_MS:
                raise Held(f"another learner is alive: {found['owner']}")
            self._generation = (found["generation"] if found else 0) + 1
            self._batch = found["batch"] if found else 0
            connection.execute(state.update().values(generation=self._generation, owner=self._owner, alive_at=_now()))
            self.versions.load(connection)
        return _positions(found["positions"]) if found else {}

    # -- read

    def rows(self, ids: Iterable[str]) -> list[Row]:
        """Examples of these names, as far as they are there and can be read."""
        return self._read([examples.c.id.in_(part) for part in _parts(list(ids))])

    def of_people(self, people: Iterable[tuple[str, str]]) -> list[Row]:
        """All examples of these (organisation, user)s."""
        whose = sa.tuple_(examples.c.organisation, examples.c.user)
        return self._read([whose.in_(part) for part in _parts(list(people))])

    def due(self, until: int, most: int) -> tuple[list[Item], list[Row]]:
        """Whose horizon ended and whose label is not known, earliest first; and their examples that can be read."""
        query = SELECT.where(examples.c.due <= until).order_by(examples.c.due, examples.c.n).limit(most)
        with self.engine.connect() as connection:
            found = connection.execute(query).mappings().all()
        items = [Item(one["due"], DUE_RANK, "", (Due(one["id"], one["source"]),)) for one in found]
        return items, [row for one in found if (row := read(one, self.versions))]

    def _read(self, tests: list[sa.ColumnElement[bool]]) -> list[Row]:
        return [row for test in tests for row in self._rows(SELECT.where(test).order_by(examples.c.n))]

    def _rows(self, query: sa.Select[Any]) -> list[Row]:
        with self.engine.connect() as connection:
            found = [read(one, self.versions) for one in connection.execute(query).mappings()]
        return [row for row in found if row]

    def waiting(self) -> list[tuple[int, int, bytes]]:
        """(number, since ms, outcome as it was told) of those that the lake did not have yet."""
        with self.engine.connect() as connection:
            return [tuple(one) for one in connection.execute(sa.select(waiting).order_by(waiting.c.seq))]

    def snapshots(self) -> list[Snapshot]:
        with self.engine.connect() as connection:
            found = connection.execute(sa.select(learners)).mappings().all()
        return [
            Snapshot(
                one["kind"],
                Place(one["model"], one["version"], one["organisation"]),
                one["seq"],
                one["state"],
                one["report"],
            )
            for one in found
        ]

    def head(self) -> int:
        """The last line of the journal; 0: there is none."""
        with self.engine.connect() as connection:
            return connection.execute(sa.select(sa.func.max(journal.c.seq))).scalar() or 0

    def journal(self, after: int) -> Iterator[tuple[int, Line]]:
        """(number, line), in the order in which they were learned, as far as their examples are still there."""
        told = journal.c.seq, journal.c.revision, journal.c.label, journal.c.was, journal.c.label_at, journal.c.why
        renamed = [column.label(f"told_{column.name}") for column in told]
        whole = SELECT.add_columns(*renamed).join(journal, journal.c.example == examples.c.id)
        while True:
            query = whole.where(journal.c.seq > after).order_by(journal.c.seq).limit(REPLAYED)
            with self.engine.connect() as connection:
                found = connection.execute(query).mappings().all()
            for one in found:
                if row := read(one, self.versions):
                    what = (one[f"told_{name}"] for name in ("revision", "label", "was", "label_at", "why"))
                    yield one["told_seq"], Line(row, *what)
            if len(found) < REPLAYED:
                return
            after = found[-1]["told_seq"]

    # -- write

    def commit(self, batch: Batch) -> bool:
        """All of it or nothing. Raises TakenOver."""
        with self.engine.begin() as connection:
            database.one_by_one(connection)
            self._fence(connection, batch.positions)
            _insert(connection, inputs, self.versions.rows())
            _insert(connection, examples, [values(row) for row in batch.new])
            self._change(connection, batch.changed)
            for part in _parts(batch.gone):  # or they would come first at every look
                connection.execute(examples.update().where(examples.c.id.in_(part)).values(due=None))
            _insert(connection, journal, [_journalled(line, n) for n, line in enumerate(batch.lines, batch.seq + 1)])
            _insert(connection, waiting, batch.wait)
            for part in _parts(batch.found):
                connection.execute(waiting.delete().where(waiting.c.seq.in_(part)))
            _count(connection, batch.aside)
            _save(connection, batch.snapshots)
        self._batch += 1
        self.versions.new.clear()
        return True

    def _fence(self, connection: sa.Connection, positions: Positions) -> None:
        mine = state.c.generation == self._generation, state.c.batch == self._batch
        told = {
            "batch": self._batch + 1,
            "positions": msgspec.json.encode(positions).decode(),
            "alive_at": _now(),
        }
        if connection.execute(state.update().where(*mine).values(told)).rowcount != 1:
            raise TakenOver("another learner took over: expected to be the one that writes")

    def _change(self, connection: sa.Connection, rows: list[Row]) -> None:
        if rows:
            update = examples.update().where(examples.c.id == sa.bindparam("whose")).values(_CHANGING)
            connection.execute(
                update, [{"whose": row.id, **{f"new_{n}": getattr(row, n) for n in _MOVES}} for row in rows]
            )


_MOVES = ("due", "label", "why", "revision")
_CHANGING: dict[str, Any] = {name: sa.bindparam(f"new_{name}") for name in _MOVES}
_KEYS = ("kind", "model", "version", "organisation")


def _now() -> int:
    return time.time_ns() // 1_000_000


def _journalled(line: Line, seq: int) -> dict[str, Any]:
    told = {name: getattr(line, name) for name in ("revision", "label", "was", "label_at", "why")}
    return told | {"seq": seq, "example": line.row.id}


def _insert(connection: sa.Connection, table: sa.Table, rows: Sequence[dict[str, Any]]) -> None:
    if rows:
        connection.execute(table.insert(), list(rows))


def _count(connection: sa.Connection, told: dict[tuple[str, str], Aside]) -> None:
    insert = database.insert(connection, aside)
    fresh = {name: insert.excluded[name] for name in ("last_id", "last_at")}
    more = insert.on_conflict_do_update(
        index_elements=["reason", "source"], set_={"count": aside.c.count + insert.excluded.count, **fresh}
    )
    now = _now()
    for (reason, source), one in told.items():
        row = {"reason": reason, "source": source, "count": one.count, "last_id": one.last_id[:256], "last_at": now}
        connection.execute(more, row)


def _save(connection: sa.Connection, snapshots: list[Snapshot]) -> None:
    insert = database.insert(connection, learners)
    fresh = {name: insert.excluded[name] for name in ("seq", "state", "report")}
    whole = insert.on_conflict_do_update(index_elements=list(_KEYS), set_=fresh)
    rows = [
        {"kind": s.kind, **msgspec.structs.asdict(s.place), "seq": s.seq, "state": s.state, "report": s.report}
        for s in snapshots
    ]
    if rows:
        connection.execute(whole, rows)


def _parts(names: list[Any]) -> Iterator[list[Any]]:
    return (names[low : low + CHUNK] for low in range(0, len(names), CHUNK))
