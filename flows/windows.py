"""The columnar table: people are rows of one int64 matrix, a micro-batch updates all of its rows at once.

Windows are tiles: hour tiles up to a day, UTC day tiles beyond. The tile that is open now is counted in
the row itself; closed tiles are a sorted list of a person's (tiles.py), of which each window's
sum is kept beside the row. So an event costs a scatter-add, and the list is opened only when a tile closes or
an event comes late. All sums are integers: no order of arrival and no cut of the batches changes them.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec
import numpy as np

from feature_repo.declare import Array
from feature_repo.finish import DAY, HOUR
from feature_repo.vocabulary import KEEP_DAYS
from flows import sums, tiles
from flows.index import Index
from flows.plan import LACKING, Plan

AT_ONCE = 2_048  # people evaluated together, so that their columns stay in the processor's caches
Tiles: TypeAlias = tuple[Array, Array, Array, Array]  # row, column, tile, amount: int64 (n,)
_NONE: Tiles = (np.zeros(0, np.int64),) * 4


class Reading(msgspec.Struct, frozen=True):
    """One signal of one person: strength and confidence 0-1, and the counts that made them."""

    name: str
    strength: float
    confidence: float
    counts: dict[str, float]


class Signals(msgspec.Struct):
    """Signals of n people: strength and confidence float64 (signals, n), the counts that made each (n,)."""

    names: list[str]
    counts: list[dict[str, Array]]
    strength: Array
    confidence: Array

    def of(self, i: int) -> list[Reading]:
        """The signals of person i."""
        columns = zip(self.names, self.strength, self.confidence, self.counts, strict=True)
        return [
            Reading(name, float(strength[i]), float(sure[i]), {k: float(count[i]) for k, count in counts.items()})
            for name, strength, sure, counts in columns
        ]


class Full(RuntimeError):
    """The table has no row left."""


class Table:
    """Rows of up to `capacity` people under one plan. Memory is touched only as rows are used."""

    def __init__(self, plan: Plan, capacity: int) -> None:
        self.plan = plan
        self.index = Index(capacity)
        self.values = np.zeros((capacity, plan.hot), np.int64)
        self._sums = np.zeros((capacity, len(plan.windows)), np.int32)
        self._wide: dict[int, Array] = {}  # sums of rows of which one takes more than 32 bits
        self._tiles = np.full(capacity, b"", object)  # closed ones, as tiles.pack gives them
        self.cold_changed = np.zeros(capacity, bool)
        self._flat = self.values.reshape(-1)
        self._place = np.zeros(capacity, np.int32)  # of a row in the batch at hand
        self._free: list[int] = []
        self._used = 0

    def __len__(self) -> int:
        return self._used - len(self._free)

    # -- rows

    def allocate(self, uids: Array) -> Array:
        """New rows for distinct identities that have none. uint64 (n,) -> int64 (n,). Raises Full."""
        short = len(uids) - len(self._free)
        if short > len(self._tiles) - self._used:
            raise Full(
                f"TELLTALE_CACHE_USERS: expected room for {len(uids)} people more, who share an entry of the log;"
                f" got {len(self._tiles)}, of whom {len(self)} are needed: raise it, the entry waits"
            )
        taken = [self._free.pop() for _ in range(min(len(uids), len(self._free)))]
        rows = np.array([*taken, *range(self._used, self._used + max(short, 0))], np.int64)
        self._used += max(short, 0)
        self.index.insert(uids, rows)
        return rows

    def release(self, rows: Array) -> None:
        """Forget people."""
        self.index.remove(self.index.keys[rows])
        self.values[rows] = 0
        self._keep_sums(rows, np.zeros((len(rows), len(self.plan.windows)), np.int64))
        self.cold_changed[rows] = False
        self._tiles[rows] = b""
        self._free.extend(rows.tolist())

    def rows(self, uids: Array) -> Array:
        """Row of each identity, made where there is none (for offline work: the stream loads state instead)."""
        rows = self.index.lookup(uids)
        missing = np.unique(uids[rows < 0])
        if len(missing):
            self.allocate(missing)
            rows = self.index.lookup(uids)
        return rows

    def now(self, rows: Array) -> Array:
        """Log time (ms) up to which each row stands."""
        return self.values[rows, 0]

    # -- events

    def apply(self, rows: Array, codes: Array, values: Array, ts: Array, now: Array) -> Array:
        """Count events, all arrays (n,) int64, in log order; `now` is each entry's log time.

        Returns a mask of the events that are too late to count (90 tiles or more): they change nothing.
        """
        ts = np.minimum(ts, now)
        late = ts // DAY <= now // DAY - KEEP_DAYS
        passed, closed = self._pass(rows, now)
        on_time = np.flatnonzero(~late)
        codes = np.minimum(codes, len(self.plan.columns_of.lengths) - 1)
        shut = self._count(rows[on_time], codes[on_time], values[on_time], ts[on_time])
        self._remember(rows[on_time], codes[on_time], ts[on_time])
        if len(shut[0]):  # of one batch with what closed: a person's list is opened once
            passed = np.concatenate((passed, shut[0]))
            passed = passed[self._lasts(passed)]
            row, column, tile, amount = map(np.concatenate, zip(closed, shut, strict=True))
            closed = row, column, tile, amount
        self._settle(passed, *closed)
        return late

    def touch(self, rows: Array, now: Array) -> None:
        """Let time pass: close the tiles of rows that entered a new one. The last `now` of a row stands."""
        passed, closed = self._pass(rows, now)
        self._settle(passed, *closed)

    def _pass(self, rows: Array, now: Array) -> tuple[Array, Tiles]:
        """Distinct rows that entered a new tile, which are to be settled, and the tiles that this closed."""
        late = np.flatnonzero(now // self.plan.tick > self.values[rows, 0] // self.plan.tick)
        late = late[self._lasts(rows[late])]
        closed = self._roll(rows[late], now[late]) if len(late) else _NONE
        np.maximum.at(self._flat, rows * self.plan.hot, now)
        return rows[late], closed

    def _lasts(self, rows: Array) -> Array:
        """Where each of the rows is for the last time."""
        at = np.arange(len(rows))
        self._place[rows] = at  # the last assignment stands
        return np.flatnonzero(self._place[rows] == at)

    def _count(self, rows: Array, codes: Array, values: Array, ts: Array) -> Tiles:
        """Adds to open tiles; gives back what belongs to closed ones."""
        plan = self.plan
        at, column = plan.columns_of.expand(codes)
        amount = np.where(plan.is_value[column], values[at], 1)
        unit = plan.unit[column]
        tile = ts[at] // unit
        row = rows[at]
        open_ = tile == self.values[row, 0] // unit
        if open_.all():
            np.add.at(self._flat, row * plan.hot + plan.today + column, amount)
            return _NONE
        np.add.at(self._flat, row[open_] * plan.hot + plan.today + column[open_], amount[open_])
        shut = ~open_
        return row[shut], column[shut], tile[shut], amount[shut]

    def _remember(self, rows: Array, codes: Array, ts: Array) -> None:
        at, last = self.plan.lasts_of.expand(codes)
        np.maximum.at(self._flat, rows[at] * self.plan.hot + self.plan.last + last, ts[at])

    # -- tiles

    def _roll(self, rows: Array, now: Array) -> Tiles:
        """Close the open tiles of distinct rows that time has passed."""
        plan = self.plan
        before = self.values[rows, 0]
        open_ = self.values[rows, plan.today : plan.last]
        closing = (before[:, None] // plan.unit != now[:, None] // plan.unit) & (open_ != 0)
        local, column = np.nonzero(closing)
        amount, tile = open_[local, column], before[local] // plan.unit[column]
        self.values[rows[local], plan.today + column] = 0
        self.values[rows, 0] = now
        return rows[local], column, tile, amount

    def _settle(self, rows: Array, row: Array, column: Array, tile: Array, amount: Array) -> None:
        """Add tiles to the closed ones of distinct rows, let old ones leave, and sum the windows anew."""
        if not len(rows):
            return
        self._place[rows] = np.arange(len(rows))
        before = self._tiles[rows]
        key, old, owner = tiles.unpack(before.tolist(), self.plan.unit)
        key, owner = np.concatenate((key, tiles.key(column, tile))), np.concatenate((owner, self._place[row]))
        after = self._keep(rows, key, np.concatenate((old, amount)), owner)
        self.cold_changed[rows[before != after]] = True

    def _keep(self, rows: Array, key: Array, amount: Array, owner: Array) -> Array:
        """These tiles (owner: index into distinct rows) are from now on all that is closed of the rows: as kept."""
        plan, now = self.plan, self.values[rows, 0]
        kept = np.flatnonzero(sums.needed(plan, now, key, owner))
        key, amount, owner = tiles.added_up(key[kept], amount[kept], owner[kept])
        packed = np.array(tiles.pack(key, amount, owner, len(rows), plan.unit), object)
        self._tiles[rows] = packed
        self._keep_sums(rows, sums.of_windows(plan, now, key, amount, owner))
        return packed

    def closed(self, rows: Array) -> list[bytes]:
        """The closed tiles of each row, as they are stored."""
        return tiles.write(*tiles.unpack(self._tiles[rows].tolist(), self.plan.unit), len(rows))

    def _keep_sums(self, rows: Array, found: Array) -> None:
        """Sums of distinct rows, int64 (n, windows): half of a million rows' memory are zeros of 64 bits otherwise."""
        narrow = found.astype(np.int32)
        self._sums[rows] = narrow
        if self._wide:
            for row in rows.tolist():
                self._wide.pop(row, None)
        for i in np.flatnonzero((narrow != found).any(axis=1)).tolist():
            self._wide[int(rows[i])] = found[i]

    def _sums_of(self, rows: Array) -> Array:
        found = self._sums[rows].astype(np.int64)
        for i, row in enumerate(rows.tolist() if self._wide else ()):
            if row in self._wide:
                found[i] = self._wide[row]
        return found

    # -- traits

    def apply_traits(self, rows: Array, traits: Array, bits: Array, ts: Array) -> None:
        """What `identify` told, in log order: the latest corrected timestamp wins, then the position in the log.

        rows, traits (trait ids), bits (float64 or fingerprint bits), ts (ms): int64 (n,).
        """
        plan, values = self.plan, self.values
        for row, trait, bit, at in zip(rows.tolist(), traits.tolist(), bits.tolist(), ts.tolist(), strict=True):
            told = values[row, plan.told + trait]
            if at < told:
                continue
            if told and values[row, plan.trait + trait] != bit:
                values[row, plan.changed + trait] = at
            values[row, plan.trait + trait] = bit
            values[row, plan.told + trait] = at

    def restore(self, rows: Array, hot: Array, closed: list[bytes]) -> None:
        """Put saved state into new rows: hot int64 (n, plan.hot), closed tiles of each as they are stored."""
        self.values[rows] = hot
        key, amount, owner = tiles.read(closed)
        self._keep(rows, key, amount, owner)
        self.cold_changed[rows[owner[~sums.needed(self.plan, hot[:, 0], key, owner)]]] = True

    # -- joining

    def empty(self, row: int) -> None:
        """Somebody whose history went to another row: only the moment up to which this one stands remains."""
        self.values[row, 1:] = 0
        self._keep_sums(np.array([row]), np.zeros((1, len(self.plan.windows)), np.int64))
        self._tiles[row] = b""
        self.cold_changed[row] = True

    def absorb(self, row: int, hot: Array, cold: bytes) -> None:
        """Add another row's history (`hot` (plan.hot,), closed tiles) to this one, which must not be older."""
        plan, mine = self.plan, self.values[row]
        self._take_in(np.array([row]), hot[None], [cold])
        mine[plan.origin] += hot[plan.origin] & LACKING
        told = np.flatnonzero(hot[plan.told : plan.changed])
        rows = np.full(len(told), row)
        self.apply_traits(rows, told, hot[plan.trait : plan.told][told], hot[plan.told : plan.changed][told])
        rest = slice(plan.changed, plan.hot)  # changes of traits, and episodes: neither begins anew by a join
        np.maximum(mine[rest], hot[rest], out=mine[rest])

    def load(self, rows: Array, hot: Array, cold: list[bytes]) -> None:
        """Add what distinct rows lacked: hot int64 (n, plan.hot) and closed tiles, which none of them had counted.

        Traits are as all that was told up to some entry makes them; what a row was told after it stands.
        """
        self._take_in(rows, hot, cold)
        plan = self.plan
        for at, trait in zip(*np.nonzero(hot[:, plan.told : plan.changed]), strict=True):
            slots = [plan.trait + trait, plan.told + trait, plan.changed + trait]
            self.values[rows[at], slots] = _later(self.values[rows[at], slots].tolist(), hot[at, slots].tolist())

    def _take_in(self, rows: Array, hot: Array, cold: list[bytes]) -> None:
        """Add open counters, closed tiles and last moments to distinct rows."""
        plan = self.plan
        at, column = np.nonzero(hot[:, plan.today : plan.last])
        open_now = tiles.key(column, hot[at, 0] // plan.unit[column]), hot[at, plan.today + column], at
        key, amount, owner = map(np.concatenate, zip(open_now, tiles.read(cold), strict=True))
        column, tile, row = key >> tiles.TILE, key & tiles.TILE_MASK, rows[owner]
        open_ = tile == self.values[row, 0] // plan.unit[column]
        np.add.at(self._flat, row[open_] * plan.hot + plan.today + column[open_], amount[open_])
        shut = row[~open_], column[~open_], tile[~open_], amount[~open_]
        self._settle(shut[0][self._lasts(shut[0])], *shut)
        lasts = slice(plan.last, plan.trait)
        self.values[rows, lasts] = np.maximum(self.values[rows, lasts], hot[:, lasts])

    # -- features

    def evaluate(self, rows: Array) -> Array:
        """Features of distinct rows as of their own `now`: float64 (n, features)."""
        out = np.empty((len(rows), len(self.plan.feature_steps)))
        for low in range(0, len(rows), AT_ONCE):
            part = slice(low, low + AT_ONCE)
            done = self._run(rows[part])
            for i, step in enumerate(self.plan.feature_steps):
                out[part, i] = done[step]
        return out

    def signals(self, rows: Array) -> Signals:
        """Every signal of distinct rows, as of their own `now`."""
        plan, done, signals = self.plan, self._run(rows), self.plan.vocabulary.signals
        counts = [{name: done[plan.step(each)] for name, each in s.evidence.items()} for s in signals]
        strength = [done[step] for step in plan.signal_steps]
        confidence = [s.confidence(*c.values()) for s, c in zip(signals, counts, strict=True)]
        shape = (len(signals), len(rows))
        names = [s.name for s in signals]
        return Signals(names, counts, np.array(strength).reshape(shape), np.array(confidence).reshape(shape))

    def _run(self, rows: Array) -> list[Array]:
        view = _View(self.plan, self.values[rows], self._sums_of(rows))
        done: list[Array] = []
        for evaluation in self.plan.steps:
            done.append(evaluation(view, done))
        return done


class _View:
    """Columns of some rows, as of each row's own now."""

    def __init__(self, plan: Plan, values: Array, sums: Array) -> None:
        self._plan = plan
        self._columns, self._sums = np.ascontiguousarray(values.T), np.ascontiguousarray(sums.T)
        self.now = self._columns[0].astype(np.float64)
        self._tile = {HOUR: self._columns[0] // HOUR, DAY: self._columns[0] // DAY}
        self._windows = (self._sums + self._columns[plan.today + plan.window_column]).astype(np.float64)
        for i in np.flatnonzero(plan.window_kind).tolist():
            self._windows[i] = self._other(i)

    def window(self, i: int) -> Array:
        return self._windows[i]

    def _other(self, i: int) -> Array:
        """A window of which the open tile does not simply add to the closed ones."""
        plan, window = self._plan, self._plan.windows[i]
        closed = self._sums[i]
        today = self._columns[plan.today + window.column]
        tile = self._tile[int(plan.unit[window.column])]
        match window.kind:
            case "moment":
                return closed + today * tile
            case "days":
                return closed + (today != 0)
            case _:
                return np.where(closed > 0, closed, np.where(today != 0, tile, 0))

    def last(self, i: int) -> Array:
        return self._columns[self._plan.last + i].astype(np.float64)

    def trait(self, i: int) -> Array:
        told = self._columns[self._plan.told + i]
        return np.where(told != 0, self._columns[self._plan.trait + i].view(np.float64), np.nan)

    def changed(self, i: int) -> Array:
        return self._columns[self._plan.changed + i].astype(np.float64)


def _later(mine: list[int], brought: list[int]) -> list[int]:
    """Of two states of a trait (bits, told, changed), the second of all that was told up to a point: both together."""
    (bits, told, changed), (before, until, changed_before) = mine, brought
    if told < until or (told, bits) == (until, before):
        return [before, until, changed_before or changed]
    if changed > until:
        return mine
    return [bits, told, changed_before if bits == before else told]
