"""The columnar table: people are rows of one int64 matrix, a micro-batch updates all of its rows at once.

Windows are tiles: hour tiles up to a day, UTC day tiles beyond. The tile that is open now is counted in
the row itself; closed tiles are a sorted list of packed entries a person (`cold`), of which each window's
sum is kept beside the row. So an event costs a scatter-add, and the list is opened only when a tile closes or
an event comes late. All sums are integers: no order of arrival and no cut of the batches changes them.
"""

from __future__ import annotations

import msgspec
import numpy as np

from feature_repo.declare import Array
from feature_repo.finish import DAY, HOUR
from feature_repo.vocabulary import KEEP_DAYS
from flows.index import Index
from flows.plan import DAYS, FIRST, LACKING, MOMENT, Plan

# A closed tile's entry: column (8 bits), tile (20 bits), value (36 bits, signed).
_TILE = 36
_TILE_MASK = (1 << 20) - 1
_KEY_MASK = (1 << 28) - 1  # column and tile: the sign of the entry is the column's highest bit
_LIMIT = (1 << 35) - 1
_NEVER = np.iinfo(np.int64).max


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
        self.cold: list[bytes] = [b""] * capacity
        self.cold_changed = np.zeros(capacity, bool)
        self._flat = self.values.reshape(-1)
        self._free: list[int] = []
        self._used = 0

    def __len__(self) -> int:
        return self._used - len(self._free)

    # -- rows

    def allocate(self, uids: Array) -> Array:
        """New rows for distinct identities that have none. uint64 (n,) -> int64 (n,). Raises Full."""
        short = len(uids) - len(self._free)
        if short > len(self.cold) - self._used:
            raise Full(
                f"TELLTALE_CACHE_USERS: expected room for {len(uids)} people more, who share an entry of the log;"
                f" got {len(self.cold)}, of whom {len(self)} are needed: raise it, the entry waits"
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
        for row in rows.tolist():
            self.cold[row] = b""
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
        self.touch(rows, now)
        on_time = np.flatnonzero(~late)
        codes = np.minimum(codes, len(self.plan.columns_of.lengths) - 1)
        self._count(rows[on_time], codes[on_time], values[on_time], ts[on_time])
        self._remember(rows[on_time], codes[on_time], ts[on_time])
        return late

    def touch(self, rows: Array, now: Array) -> None:
        """Let time pass: close the tiles of rows that entered a new one. The last `now` of a row stands."""
        passed = np.flatnonzero(now // self.plan.tick > self.values[rows, 0] // self.plan.tick)
        if len(passed):
            unique, position = _last(rows[passed])
            self._roll(unique, now[passed][position])
        np.maximum.at(self._flat, rows * self.plan.hot, now)

    def _count(self, rows: Array, codes: Array, values: Array, ts: Array) -> None:
        plan = self.plan
        at, column = plan.columns_of.expand(codes)
        amount = np.where(plan.is_value[column], values[at], 1)
        unit = plan.unit[column]
        tile = ts[at] // unit
        row = rows[at]
        open_ = tile == self.values[row, 0] // unit
        np.add.at(self._flat, row[open_] * plan.hot + plan.today + column[open_], amount[open_])
        if not open_.all():
            shut = ~open_
            self._insert(row[shut], column[shut], tile[shut], amount[shut])

    def _remember(self, rows: Array, codes: Array, ts: Array) -> None:
        at, last = self.plan.lasts_of.expand(codes)
        np.maximum.at(self._flat, rows[at] * self.plan.hot + self.plan.last + last, ts[at])

    # -- tiles

    def _insert(self, rows: Array, column: Array, tile: Array, amount: Array) -> None:
        """Add amounts to tiles that are closed already."""
        unique, local = np.unique(rows, return_inverse=True)
        self._settle(unique, local, column, tile, amount)

    def _roll(self, rows: Array, now: Array) -> None:
        """Close the open tiles of distinct rows that time has passed, and let old ones leave their windows."""
        plan = self.plan
        before = self.values[rows, 0]
        open_ = self.values[rows, plan.today : plan.last]
        closing = (before[:, None] // plan.unit != now[:, None] // plan.unit) & (open_ != 0)
        local, column = np.nonzero(closing)
        amount, tile = open_[local, column], before[local] // plan.unit[column]
        self.values[rows[local], plan.today + column] = 0
        self.values[rows, 0] = now
        self._settle(rows, local, column, tile, amount)

    def _settle(self, rows: Array, local: Array, column: Array, tile: Array, amount: Array) -> None:
        """Merge entries (of rows[local]) into the closed tiles of distinct rows and sum the windows anew."""
        merged, owner = self._merge(rows, local, _key(column, tile), amount)
        self._store(rows, merged, owner)
        self._sum_windows(rows, merged, owner)

    def _merge(self, rows: Array, local: Array, key: Array, amount: Array) -> tuple[Array, Array]:
        """(entries, index into rows): old and new entries added up by tile, without those past every window."""
        old, lengths = self._closed(rows)
        owner = np.concatenate((np.repeat(np.arange(len(rows)), lengths), local))
        key = np.concatenate(((old >> _TILE) & _KEY_MASK, key))
        amount = np.concatenate(((old << (64 - _TILE)) >> (64 - _TILE), amount))
        kept = np.flatnonzero(self._kept(key, self.values[rows, 0][owner]))
        order = kept[np.argsort((owner[kept] << 28) | key[kept], kind="stable")]
        owner, key, amount = owner[order], key[order], amount[order]
        starts = np.flatnonzero(_differs(owner) | _differs(key))
        sums = np.add.reduceat(amount, starts) if len(starts) else amount
        return _pack(key[starts], sums, owner[starts])

    def _kept(self, key: Array, now: Array) -> Array:
        column, tile = key >> 20, key & _TILE_MASK
        return tile > now // self.plan.unit[column] - self.plan.keep[column]

    def _closed(self, rows: Array) -> tuple[Array, Array]:
        cold = [self.cold[row] for row in rows.tolist()]
        return np.frombuffer(b"".join(cold), np.int64), np.fromiter(map(len, cold), np.int64, len(cold)) // 8

    def _store(self, rows: Array, entries: Array, owner: Array) -> None:
        packed = entries.tobytes()
        ends = np.searchsorted(owner, np.arange(len(rows)), side="right") * 8
        start = 0
        for row, end in zip(rows.tolist(), ends.tolist(), strict=True):
            closed = packed[start:end]
            if closed != self.cold[row]:
                self.cold[row] = closed
                self.cold_changed[row] = True
            start = end

    def _sum_windows(self, rows: Array, entries: Array, owner: Array) -> None:
        plan = self.plan
        key, amount = (entries >> _TILE) & _KEY_MASK, (entries << (64 - _TILE)) >> (64 - _TILE)
        at, window = plan.windows_of.expand(key >> 20)
        column, tile = key[at] >> 20, key[at] & _TILE_MASK
        today = self.values[rows, 0][owner[at]] // plan.unit[column]
        inside = tile > today - plan.window_length[window]
        at, window, tile = at[inside], window[inside], tile[inside]
        kind = plan.window_kind[window]
        first_part = _differs(owner)[at] | _differs(key)[at]  # a large value spans several entries of one tile
        share = np.where(kind == MOMENT, amount[at] * tile, np.where(kind == DAYS, first_part, amount[at]))
        sums = np.zeros((len(rows), len(plan.windows)), np.int64)
        adds = kind != FIRST
        np.add.at(sums, (owner[at][adds], window[adds]), share[adds])
        earliest = np.full(len(sums.reshape(-1)), _NEVER)
        np.minimum.at(earliest, (owner[at] * len(plan.windows) + window)[~adds], tile[~adds])
        found = earliest != _NEVER
        sums.reshape(-1)[found] = earliest[found]
        self._keep_sums(rows, sums)

    def _keep_sums(self, rows: Array, sums: Array) -> None:
        """Sums of distinct rows, int64 (n, windows): half of a million rows' memory are zeros of 64 bits otherwise."""
        narrow = sums.astype(np.int32)
        self._sums[rows] = narrow
        if self._wide:
            for row in rows.tolist():
                self._wide.pop(row, None)
        for i in np.flatnonzero((narrow != sums).any(axis=1)).tolist():
            self._wide[int(rows[i])] = sums[i]

    def _sums_of(self, rows: Array) -> Array:
        sums = self._sums[rows].astype(np.int64)
        for i, row in enumerate(rows.tolist() if self._wide else ()):
            if row in self._wide:
                sums[i] = self._wide[row]
        return sums

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

    def restore(self, rows: Array, hot: Array, cold: list[bytes]) -> None:
        """Put saved state into new rows: hot int64 (n, plan.hot), closed tiles of each."""
        self.values[rows] = hot
        for row, closed in zip(rows.tolist(), cold, strict=True):
            self.cold[row] = closed
        nothing = np.zeros(0, np.int64)
        self._settle(rows, nothing, nothing, nothing, nothing)

    # -- joining

    def empty(self, row: int) -> None:
        """Somebody whose history went to another row: only the moment up to which this one stands remains."""
        self.values[row, 1:] = 0
        self._keep_sums(np.array([row]), np.zeros((1, len(self.plan.windows)), np.int64))
        self.cold[row] = b""
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
        entries = np.frombuffer(b"".join(cold), np.int64)
        owner = np.concatenate((at, np.repeat(np.arange(len(cold)), [len(closed) // 8 for closed in cold])))
        key = np.concatenate((_key(column, hot[at, 0] // plan.unit[column]), (entries >> _TILE) & _KEY_MASK))
        amount = np.concatenate((hot[at, plan.today + column], (entries << (64 - _TILE)) >> (64 - _TILE)))
        column, tile, row = key >> 20, key & _TILE_MASK, rows[owner]
        open_ = tile == self.values[row, 0] // plan.unit[column]
        np.add.at(self._flat, row[open_] * plan.hot + plan.today + column[open_], amount[open_])
        self._insert(row[~open_], column[~open_], tile[~open_], amount[~open_])
        lasts = slice(plan.last, plan.trait)
        self.values[rows, lasts] = np.maximum(self.values[rows, lasts], hot[:, lasts])

    # -- features

    def evaluate(self, rows: Array) -> Array:
        """Features of distinct rows as of their own `now`: float64 (n, features)."""
        done = self._run(rows)
        out = np.empty((len(rows), len(self.plan.feature_steps)))
        for i, step in enumerate(self.plan.feature_steps):
            out[:, i] = done[step]
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

    def window(self, i: int) -> Array:
        plan, window = self._plan, self._plan.windows[i]
        closed = self._sums[i]
        today = self._columns[plan.today + window.column]
        tile = self._tile[int(plan.unit[window.column])]
        match window.kind:
            case "moment":
                total = closed + today * tile
            case "days":
                total = closed + (today != 0)
            case "first":
                total = np.where(closed > 0, closed, np.where(today != 0, tile, 0))
            case _:
                total = closed + today
        return total.astype(np.float64)

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


def packed(key: Array, amount: Array, owner: Array) -> tuple[Array, Array]:
    """(entries of closed tiles, owner of each). Key: column << 20 | tile, sorted by owner, then key; int64 (n,)."""
    return _pack(key, amount, owner)


def tiles(entries: Array) -> Array:
    """The tile of each entry of closed tiles."""
    return (entries >> _TILE) & _TILE_MASK


def _key(column: Array, tile: Array) -> Array:
    return (column << 20) | tile


def _differs(x: Array) -> Array:
    """True where an element differs from the one before it."""
    out = np.ones(len(x), bool)
    np.not_equal(x[1:], x[:-1], out=out[1:])
    return out


def _last(rows: Array) -> tuple[Array, Array]:
    """Distinct rows, and the position of the last occurrence of each."""
    unique, from_end = np.unique(rows[::-1], return_index=True)
    return unique, len(rows) - 1 - from_end


def _pack(key: Array, amount: Array, owner: Array) -> tuple[Array, Array]:
    """Entries of nonzero amounts; one beyond 36 bits becomes several of the same tile."""
    there = np.flatnonzero(amount)
    key, amount, owner = key[there], amount[there], owner[there]
    parts = (np.abs(amount) - 1) // _LIMIT + 1
    if (parts > 1).any():
        at = np.repeat(np.arange(len(parts)), parts)
        rest = _differs(at)
        full = np.sign(amount[at]) * _LIMIT
        amount = np.where(rest, amount[at] - (parts[at] - 1) * full, full)
        key, owner = key[at], owner[at]
    return (key << _TILE) | (amount & ((1 << _TILE) - 1)), owner
