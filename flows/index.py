"""Hash tables of 64-bit identities that look up a whole batch in a few array operations.

Open addressing with linear probing. A Python dict of a million users was 42 % of the engine's time.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
_EMPTY, _GONE = -1, -2
_GONE_ID = np.uint64(1)  # no message has this identity
_SMALLEST = 1 << 16  # ids of the first generation


def _size(capacity: int) -> int:
    return 1 << max(4, (2 * capacity - 1).bit_length())


class Index:
    """uint64 identity -> row. `keys[row]` holds the identity of each row in use."""

    def __init__(self, capacity: int) -> None:
        self.keys = np.zeros(capacity, np.uint64)
        self._slots = np.full(_size(capacity), _EMPTY, np.int32)
        self._mask = len(self._slots) - 1
        self._gone = 0

    def lookup(self, uids: Array) -> Array:
        """Row of each identity, -1 where there is none. uint64 (n,) -> int64 (n,)."""
        rows = np.full(len(uids), -1, np.int64)
        pending, wanted, at = np.arange(len(uids)), uids, self._home(uids)
        while len(pending):
            found = self._slots[at]
            hit = (self.keys[found] == wanted) & (found >= 0)
            rows[pending[hit]] = found[hit]
            go_on = ~hit & (found != _EMPTY)
            pending, wanted = pending[go_on], wanted[go_on]
            at = (at[go_on] + 1) & self._mask
        return rows

    def insert(self, uids: Array, rows: Array) -> None:
        """Add distinct identities that are not there yet."""
        self.keys[rows] = uids
        at = self._home(uids)
        while len(rows):
            found = self._slots[at]
            free = found < 0
            self._gone -= int((found[free] == _GONE).sum())
            self._slots[at[free]] = rows[free]
            lost = self._slots[at] != rows
            rows, at = rows[lost], (at[lost] + 1) & self._mask

    def remove(self, uids: Array) -> None:
        """Forget identities that are there."""
        at, wanted = self._home(uids), uids
        while len(wanted):
            found = self._slots[at]
            hit = (found >= 0) & (self.keys[found] == wanted)
            self._slots[at[hit]] = _GONE
            self._gone += int(hit.sum())
            wanted, at = wanted[~hit], (at[~hit] + 1) & self._mask
        if self._gone > len(self._slots) // 8:
            self._rebuild()

    def _rebuild(self) -> None:
        rows = self._slots[self._slots >= 0].astype(np.int64)
        self._slots.fill(_EMPTY)
        self._gone = 0
        self.insert(self.keys[rows], rows)

    def _home(self, uids: Array) -> Array:
        return ((uids >> np.uint64(20)) & np.uint64(self._mask)).astype(np.int64)


class _Generation:
    """A set of identities, each with the minute in which it came."""

    def __init__(self, capacity: int) -> None:
        size = _size(capacity * 2 // 3)
        self.capacity = capacity
        self.keys = np.zeros(size, np.uint64)
        self.minute = np.zeros(size, np.uint32)
        self.count = 0
        self.newest = 0

    def find(self, ids: Array) -> Array:
        """Slot of each identity, -1 where it is not."""
        slots = np.full(len(ids), -1, np.int64)
        pending, wanted = np.arange(len(ids)), ids
        at = self._home(ids)
        while len(pending):
            found = self.keys[at]
            hit = found == wanted
            slots[pending[hit]] = at[hit]
            go_on = ~hit & (found != 0)
            pending, wanted = pending[go_on], wanted[go_on]
            at = (at[go_on] + 1) & (len(self.keys) - 1)
        return slots

    def add(self, ids: Array, minutes: Array) -> Array:
        """Insert identities that are not here; returns which of them repeat an earlier one of the same call."""
        repeats = np.zeros(len(ids), bool)
        order = np.arange(len(ids))[::-1]  # the last assignment to a slot stands, so go backwards: the first wins
        at = self._home(ids[order])
        while len(order):
            wanted = ids[order]
            free = self.keys[at] == 0
            self.keys[at[free]] = wanted[free]
            self.minute[at[free]] = order[free]
            settled = free & (self.keys[at] == wanted)
            won = settled & (self.minute[at] == order)
            repeats[order[settled & ~won]] = True
            self.minute[at[won]] = minutes[order[won]]
            order, at = order[~settled], (at[~settled] + 1) & (len(self.keys) - 1)
        self.count += int((~repeats).sum())
        self.newest = max(self.newest, int(minutes.max(initial=0)))
        return repeats

    def _home(self, ids: Array) -> Array:
        return ((ids >> np.uint64(20)) & np.uint64(len(self.keys) - 1)).astype(np.int64)


class Seen:
    """Message identities of the last `horizon` minutes, at most `capacity` of them.

    They are kept in generations, each twice as large as the one before up to a quarter of the capacity, so
    that a quiet store needs little memory and nothing is ever copied. When there is no room the oldest
    generation goes and the horizon is shorter than asked: `shortened_to` is the minute since which
    everything is remembered.
    """

    def __init__(self, capacity: int, horizon: int) -> None:
        self.horizon = horizon
        self.capacity = capacity
        self.shortened_to = 0
        self._generations = [_Generation(min(_SMALLEST, max(capacity // 4, 16)))]

    def __len__(self) -> int:
        return sum(g.count for g in self._generations)

    def first(self, ids: Array, minutes: Array) -> Array:
        """Remember identities; True where one was not seen in the horizon before its minute, nor earlier in `ids`.

        ids: uint64 (n,), none of them 0 or 1; minutes: int64 (n,), since 1970.
        """
        out = np.ones(len(ids), bool)
        for part in self._spans(minutes):
            out[part] = self._first(ids[part], minutes[part])
        return out

    def _spans(self, minutes: Array) -> list[Array]:
        """Positions of what may be looked up at once: a call that spans more than the horizon goes in several."""
        if not len(minutes):
            return []
        span = minutes // (self.horizon + 1)
        if span.min() == span.max():
            return [np.arange(len(minutes))]
        return [np.flatnonzero(span == each) for each in np.unique(span)]

    def _first(self, ids: Array, minutes: Array) -> Array:
        newest = self._generations[-1]
        if newest.count + len(ids) > newest.capacity:
            self._turn(len(ids))
        known = np.zeros(len(ids), bool)
        for generation in self._generations:
            known |= self._recent(generation, ids, minutes)
        fresh = np.flatnonzero(~known)
        repeats = self._generations[-1].add(ids[fresh], minutes[fresh])
        known[fresh[repeats]] = True
        return ~known

    def _recent(self, generation: _Generation, ids: Array, minutes: Array) -> Array:
        """Which are there and young enough; one that is too old makes way, since it counts anew."""
        slots = generation.find(ids)
        there = np.flatnonzero(slots >= 0)
        young = generation.minute[slots[there]] + self.horizon >= minutes[there]
        generation.keys[slots[there[~young]]] = _GONE_ID
        out = np.zeros(len(ids), bool)
        out[there[young]] = True
        return out

    def _turn(self, coming: int) -> None:
        """Begin a generation, and let go of the oldest while there is no room.

        Not of those that look too old: a partition that is behind the others may still need them.
        """
        kept = list(self._generations)
        size = max(coming, min(2 * kept[-1].capacity, max(self.capacity // 4, 16)))
        while kept and sum(g.capacity for g in kept) + size > self.capacity:
            self.shortened_to = max(self.shortened_to, kept.pop(0).newest + 1)
        self._generations = [*kept, _Generation(size)]
