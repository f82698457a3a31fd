"""`telltale consistency`: a sample of what was served, computed again from the lake's events by the window code."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import date
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import redis

from feature_repo import keys
from feature_repo.declare import Aggregate, Last, TraitChanged, TraitValue
from feature_repo.finish import DAY
from feature_repo.vocabulary import Vocabulary, nodes
from flows.lake_read import LakeReader
from flows.plan import Plan
from flows.served import feature_set, names
from flows.state import identity
from flows.store import Store
from flows.windows import Table
from training.logged import QUERY, Absorbed, Person, apply, ms_at, people, place
from training.people import Array

SHOWN = 20  # differences told one by one
_SAMPLE = """
    SELECT * FROM served WHERE feature_set = ? ORDER BY hash(uid, position, created, CAST(? AS BIGINT)) LIMIT ?
"""
_ANONYMOUS = "SELECT DISTINCT joined FROM links WHERE type = 'absorb' AND uid IN (SELECT unnest(CAST(? AS UBIGINT[])))"
_USERS = "SELECT DISTINCT uid FROM links WHERE type = 'absorb' AND joined IN (SELECT unnest(CAST(? AS VARCHAR[])))"


class NothingServed(ValueError):
    """There is nothing to compare; the message says why."""


class Difference(msgspec.Struct, frozen=True):
    """One value that was served and is computed otherwise: of whom, as of when (log entry; ms since 1970)."""

    user: str
    position: str
    now: int
    feature: str
    served: float
    computed: float | None


class Feature(msgspec.Struct):
    """How many rows a feature differs in, and by how much at most."""

    rows: int = 0
    largest: float = 0.0


class Report(msgspec.Struct, kw_only=True):
    """`rows` were compared, `differ` of them differ in a value at least; `share` = differ / rows.

    `left_out`: rows of people whose history cannot be told apart from before it was written down.
    """

    rows: int
    people: int
    values: int
    differ: int
    share: float
    left_out: int
    features: dict[str, Feature]
    examples: list[Difference]


class Consistency:
    """Of one store and its lake."""

    def __init__(self, reader: LakeReader, plan: Plan, store: Store, dedup_hours: int, removed_until: str = "") -> None:
        self._reader, self._plan, self._store = reader, plan, store
        self._horizon = dedup_hours * 60
        self._reach = _reach(plan.vocabulary)
        self._loads = _loads(reader, store)
        self._removed = date.fromisoformat(removed_until).toordinal() - _EPOCH if removed_until else None

    def compare(self, sample: int, seed: int) -> Report:
        """Compares up to `sample` served rows. Raises NothingServed."""
        served = self._reader.served(_SAMPLE, values=[feature_set(self._plan), seed, sample])
        if not len(served):
            raise NothingServed(
                "the lake holds no features as served under this vocabulary: see TELLTALE_LAKE_FEATURES"
            )
        known = self._people(served["uid"].to_pylist())
        values = np.stack([served[n].to_numpy(zero_copy_only=False) for n in names(self._plan.vocabulary)], axis=1)
        computed = np.full_like(values, np.nan)
        there = np.zeros(len(values), bool)
        for i, row in self._recomputed(served, known):
            computed[i], there[i] = row, True
        return self._report(served, values, computed, there)

    def _people(self, uids: list[int]) -> dict[int, Person]:
        """Those people, and the anonymous ones whom they took over, with whoever else took some of these over."""
        wanted = sorted(set(uids))
        anonymous = self._reader.sql(_ANONYMOUS, values=[wanted])["joined"].to_pylist()
        takers = self._reader.sql(_USERS, values=[anonymous])["uid"].to_pylist() if anonymous else []
        everybody = {*wanted, *takers, *(identity(self._store, name.encode()) for name in anonymous)}
        rows = self._reader.sql(QUERY, values=[sorted(everybody)])
        return people(rows, self._plan.vocabulary, self._store, self._horizon, restated=bool(self._loads))

    def _recomputed(self, served: pa.Table, known: dict[int, Person]) -> Iterator[tuple[int, Array]]:
        """(row of `served`, features) of each that can be computed."""
        parts = _parts(known)
        reads: dict[int, list[tuple[int, int, int]]] = {}
        columns = (served["uid"].to_pylist(), served["position"].to_pylist(), _ms(served))
        for i, (uid, position, now) in enumerate(zip(*columns, strict=True)):
            if place(position.encode()) <= self._loads.get(uid % self._store.partitions, -1):
                continue  # what a load brought was not there yet
            reads.setdefault(uid, []).append((place(position.encode()), now, i))
        for uid, mine in reads.items():
            person = known.get(uid, Person(np.zeros((5, 0), np.int64)))
            yield from _Replay(self._plan, known, parts).run(person, sorted(mine))

    def _report(self, served: pa.Table, values: Array, computed: Array, there: Array) -> Report:
        comparable = there[:, None] & ~np.isnan(values) & self._kept(np.array(_ms(served)))
        off = comparable & (values.view(np.int64) != computed.view(np.int64))
        rows = comparable.any(axis=1)
        differ = int(off.any(axis=1).sum())
        features, examples = dict[str, Feature](), list[Difference]()
        for i, k in np.argwhere(off).tolist():
            name = self._plan.vocabulary.features[k].name
            feature = features.setdefault(name, Feature())
            feature.rows += 1
            gap = abs(values[i, k] - computed[i, k])
            feature.largest = max(feature.largest, float(gap) if np.isfinite(gap) else np.inf)
            if len(examples) < SHOWN:
                examples.append(_difference(served, i, name, values[i, k], computed[i, k]))
        return Report(
            rows=int(rows.sum()),
            people=len(set(np.array(served["uid"].to_pylist(), np.uint64)[rows].tolist())),
            values=int(comparable.sum()),
            differ=differ,
            share=differ / max(int(rows.sum()), 1),
            left_out=int((~rows).sum()),
            features=features,
            examples=examples,
        )

    def _kept(self, now: Array) -> Array:
        """(rows, features): what does not reach back to dates that the lake has removed."""
        if self._removed is None:
            return np.ones((len(now), len(self._reach)), bool)
        first = now[:, None] // DAY - self._reach[None, :] + 1  # the day at which a window begins
        return np.asarray(first > self._removed)


class _Replay:
    """One person's log, applied piece by piece to a row of a table, as the engine does."""

    def __init__(self, plan: Plan, known: dict[int, Person], parts: dict[tuple[int, int], int]) -> None:
        self._plan, self._known, self._parts = plan, known, parts
        self._table = Table(plan, 2)
        self._row = self._table.rows(np.array([1], np.uint64))

    def run(self, person: Person, reads: list[tuple[int, int, int]]) -> Iterator[tuple[int, Array]]:
        """(number, features) of each read (position, now, number); nothing from an absorption on that says not what."""
        absorbed, done = list(person.absorbed), -1
        for at, now, i in reads:
            while absorbed and absorbed[0].at <= at:
                apply(self._table, self._row, person, done, absorbed[0].at)
                done = absorbed[0].at
                if not self._absorb(absorbed.pop(0)):
                    return
            apply(self._table, self._row, person, done, at)
            done = at
            yield i, self._read(now, gone=person.joined is not None and person.joined <= at)

    def _read(self, now: int, *, gone: bool) -> Array:
        """`gone`: all that this anonymous person had is somebody else's by now."""
        table, row = (Table(self._plan, 1), None) if gone else (self._table, self._row)
        row = table.rows(np.array([1], np.uint64)) if row is None else row
        table.touch(row, np.array([now]))
        return np.asarray(table.evaluate(row)[0])

    def _absorb(self, it: Absorbed) -> bool:
        """Whether it could be: what an anonymous person did since the absorption before is added to the row."""
        if it.until is None or it.anonymous not in self._known:
            return False
        other = self._table.rows(np.array([2], np.uint64))
        apply(self._table, other, self._known[it.anonymous], self._parts[it.anonymous, it.until], it.until)
        values, (cold,) = self._table.values[int(other[0])], self._table.closed(other)
        hot = values[: self._plan.hot].copy()
        self._table.release(other)
        self._table.touch(self._row, np.array([max(ms_at(it.at), int(hot[0]))]))
        self._table.absorb(int(self._row[0]), hot, cold)
        return True


def _parts(known: dict[int, Person]) -> dict[tuple[int, int], int]:
    """(anonymous person, until) of each absorption -> from where on, which is where the one before ended."""
    ends: dict[int, list[int]] = {}
    for person in known.values():
        for it in person.absorbed:
            ends.setdefault(it.anonymous, []).append(-1 if it.until is None else it.until)
    return {
        (anonymous, until): before
        for anonymous, untils in ends.items()
        for before, until in zip([-1, *sorted(untils)], sorted(untils), strict=False)
    }


_EPOCH = date(1970, 1, 1).toordinal()
_FOR_EVER = 1 << 30


def _reach(vocabulary: Vocabulary) -> Array:
    """How many days back, today included, each feature looks: (features,)."""
    return np.array([max(map(_days, nodes(f.of, vocabulary)), default=0) for f in vocabulary.features])


def _days(node: Any) -> int:
    if isinstance(node, Aggregate):
        return node.days or 2
    return _FOR_EVER if isinstance(node, Last | TraitValue | TraitChanged) else 0


def _ms(served: pa.Table) -> list[int]:
    found = served["event_timestamp"].cast(pa.timestamp("ms", tz="UTC")).cast(pa.int64()).to_pylist()
    return [int(ms) for ms in found]


def _difference(served: pa.Table, i: int, feature: str, was: float, is_: float) -> Difference:
    user = f"{served['organisation'][i].as_py()}/{served['user'][i].as_py()}"
    computed = None if np.isnan(is_) else float(is_)
    return Difference(user, served["position"][i].as_py(), _ms(served[i : i + 1])[0], feature, float(was), computed)


def remember(client: redis.Redis, report: Report) -> None:
    """For /metrics."""
    found = {"at_seconds": time.time(), "rows": report.rows, "rows_differing": report.differ, "share": report.share}
    client.hset(keys.CONSISTENCY, mapping=found)


def _loads(reader: LakeReader, store: Store) -> dict[int, int]:
    """By partition where `telltale backfill --load` ran: the last entry that it read."""
    if reader.client is None:
        return {}
    found = {p: reader.client.hvals(keys.loads(p)) for p in range(store.partitions)}
    return {p: max(map(place, ids)) for p, ids in found.items() if ids}
