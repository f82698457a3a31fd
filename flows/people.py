"""The people whom the engine knows now: a cache of the state in Redis, with what has yet to be written."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from feature_repo.declare import Array
from flows.eras import begun
from flows.lookups import Lookups
from flows.meters import Meters
from flows.online import Online
from flows.plan import Plan
from flows.state import Layouts
from flows.windows import Table

MANY = 32_000  # people a write: fewer are written too often, more fall out of the store's caches
_NOBODY = np.zeros(0, np.uint64)


class People:
    """Rows of the table with their names and partitions.

    `dirty`: counted since the last write. `muted`: last touched by imported history, so nothing fires.
    `relay`: an anonymous
    person who was identified; what comes is passed on. `new`: begun here and never written. `writing`: how many
    writes of them are under way.
    """

    def __init__(self, plan: Plan, layouts: Layouts, lookups: Lookups, capacity: int) -> None:
        self.table = Table(plan, capacity)
        self.names: list[bytes] = [b""] * capacity
        self.partition = np.zeros(capacity, np.uint16)
        self.dirty = np.zeros(capacity, bool)
        self.writing = np.zeros(capacity, np.uint8)
        self.muted = np.zeros(capacity, bool)
        self.relay = np.zeros(capacity, bool)
        self.online = Online(capacity, len(plan.vocabulary.features))
        self.created: list[Array] = []
        self.new = np.zeros(capacity, bool)
        self.meters = Meters()
        self.evicted = 0
        self._layouts = layouts
        self._lookups = lookups
        self.capacity = capacity

    def find(self, uids: Array, partitions: Array, name: Callable[[int], bytes]) -> Array:
        """Rows of people, loaded from Redis or begun where they are not here. `name(i)` is that of `uids[i]`."""
        rows = self.table.index.lookup(uids)
        absent = np.flatnonzero(rows < 0)
        self.meters.count("cache_hits", partitions[rows >= 0])
        if len(absent):
            unique, first = np.unique(uids[absent], return_index=True)
            at = absent[first]
            self.meters.count("cache_misses", partitions[at])
            self._load(unique, partitions[at], [name(i) for i in at.tolist()])
            rows = self.table.index.lookup(uids)
        return rows

    def known(self, uids: Array, partition: int) -> Array:
        """Rows of those of these people who have state, loaded where they are not here."""
        rows = self.table.index.lookup(uids)
        absent = uids[rows < 0]
        if len(absent):
            self._load(absent, np.full(len(absent), partition), None)
            rows = self.table.index.lookup(uids)
        return rows[rows >= 0]

    def room(self) -> int:
        return self.capacity - len(self.table)

    def absent(self, uids: Array) -> Array:
        """The distinct ones of these people who are not here, sorted."""
        return np.unique(uids[self.table.index.lookup(uids) < 0])

    def many(self) -> bool:
        """Whether as many wait to be written as one write should hold."""
        return int(np.count_nonzero(self.dirty)) >= MANY

    def evict(self, count: int, spared: Array = _NOBODY) -> None:
        """Forget up to `count` people whose state is in Redis, those longest untouched first, none of `spared`."""
        idle = (self.table.values[:, 0] > 0) & ~self.dirty & (self.writing == 0)
        rows = self.table.index.lookup(spared)
        idle[rows[rows >= 0]] = False
        used = np.flatnonzero(idle)
        if len(used) > count:
            used = used[np.argpartition(self.table.values[used, 0], count)[:count]]
        self.table.release(used)
        self._lookups.forget()
        self.relay[used] = self.muted[used] = False
        self.evicted += len(used)

    def mark(self, rows: Array, muted: Array | bool) -> None:
        """These rows were counted and have to be written."""
        self.dirty[rows] = True
        self.muted[rows] = muted

    def evaluate(self, rows: Array) -> Array:
        """Features of distinct rows, float64 (n, features); NaN where a row lacks what they are made of."""
        features = self.table.evaluate(rows)
        self._layouts.eras.hide(self.table.values[rows, : self.table.plan.today], features)
        return features

    def _load(self, uids: Array, partitions: Array, names: list[bytes] | None) -> None:
        hot, cold = self._lookups.get(uids)
        there = np.array([h is not None and c is not None for h, c in zip(hot, cold, strict=True)], bool)
        self._restore(uids[there], partitions[there], [x for x in hot if x], [x for x in cold if x])
        if names is not None:
            new = np.flatnonzero(~there)
            self._begin(uids[new], partitions[new], [names[i] for i in new.tolist()])

    def _restore(self, uids: Array, partitions: Array, hot: list[bytes], cold: list[bytes]) -> None:
        if len(uids):
            values, names, closed = self._layouts.read(hot, cold)
            rows = self._place(uids, partitions, names)
            self.table.restore(rows, values, closed)
            self.relay[rows] = [b"\0" in name for name in names]
            ours = rows[[value.startswith(self._layouts.head) for value in hot]]
            self.online.begin(ours, self.evaluate(ours))  # written with this state, by this code

    def _begin(self, uids: Array, partitions: Array, names: list[bytes]) -> None:
        if len(uids):
            rows = self._place(uids, partitions, names)
            self.table.cold_changed[rows] = True
            self.table.values[rows, self.table.plan.origin] = begun(self._layouts.eras.today)
            self.created.append(rows)
            self.new[rows] = True

    def _place(self, uids: Array, partitions: Array, names: list[bytes]) -> Array:
        rows = self.table.allocate(uids)
        self.partition[rows] = partitions
        self.online.forget(rows)
        for row, name in zip(rows.tolist(), names, strict=True):
            self.names[row] = name
        return rows
