"""Everything that one flush writes, by partition."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import numpy as np

from feature_repo import keys
from feature_repo.declare import Array
from flows import outcome_events
from flows.entry import Draft, Kind
from flows.flush import Commands, Flush, Written
from flows.people import People
from flows.plan import Plan
from flows.scored import LastScores, Scored
from flows.scoring import Evaluated
from flows.served import Served, ServedRows
from flows.state import Layouts, identity
from flows.store import Store
from flows.streams import append
from flows.writer import FeatureBytes, hot_states, mset

TOGETHER = 256  # people of one transaction: more at once fall out of the store's caches
BLOCK = 4_096  # people whose commands are built at once, or those of a partition


class Part(NamedTuple):
    """Which rows are a partition's."""

    partition: int
    start: int
    stop: int


class Block(msgspec.Struct, frozen=True):
    """People who are written: (n,), features and what of them changed (n, features); private fields of each."""

    rows: Array
    features: Array
    changed: Array
    new: Array
    known: Array
    beside: list[bytes]


class Transactions:
    """Builds the commands of a flush from the table."""

    def __init__(
        self,
        plan: Plan,
        people: People,
        layouts: Layouts,
        store: Store,
        dedup_minutes: int,
        served: Served,
        scored: LastScores,
    ) -> None:
        self._plan, self._people, self._layouts, self._store = plan, people, layouts, store
        self._served, self._scored = served, scored
        self._feature_bytes = FeatureBytes(plan.vocabulary, scored.names)
        self._defaults = np.array([feature.default for feature in plan.vocabulary.features])
        self._horizon = dedup_minutes
        self.passes_on = True  # not while a log is filled again: what was passed on is in it

    def defaults(self) -> list[bytes | str]:
        """A command to run before the first transaction: the features that somebody new begins with."""
        return self._feature_bytes.defaults()

    def build(self, evaluated: Evaluated, minutes: dict[int, deque[int]]) -> dict[int, Flush]:
        """What to write, by partition; `minutes`: those that have a `seen` key."""
        defaults = self._feature_bytes.defaults_key
        flushes = {progress.partition: Flush(progress.partition, defaults) for progress in evaluated.progress}
        rest = {p: flush.rest for p, flush in flushes.items()}
        self._pass_on(evaluated, rest)
        scored = self._scored.of(evaluated, self._people.table.now(evaluated.rows))
        self._people_of(evaluated, flushes, scored)
        self._serve(evaluated, rest, scored)
        self._slices(rest)
        for progress in evaluated.progress:
            into = rest[progress.partition]
            for alert in evaluated.alerts.get(progress.partition, ()):
                into.add("XADD", keys.ALERTS, "*", "a", alert)
            if progress.outcomes and self.passes_on:
                told = progress.partition, progress.position, progress.outcomes
                into.add_packed(outcome_events.command(self._store.clock, *told))
            progress.commands(into, minutes[progress.partition], self._horizon)
        return flushes

    def _pass_on(self, evaluated: Evaluated, commands: dict[int, Commands]) -> None:
        """What an identified anonymous person has gathered goes to the user's partition."""
        people, plan = self._people, self._plan
        position = {progress.partition: progress.position for progress in evaluated.progress}
        for at in np.flatnonzero(people.relay[evaluated.rows]).tolist():
            row = int(evaluated.rows[at])
            values, (closed,) = people.table.values[row], people.table.closed(np.array([row]))
            change = self._layouts.eras.change(int(values[plan.origin]))
            if not (values[plan.today :].any() or closed or change):
                continue
            origin, values[plan.origin] = values[plan.origin] + change, change
            anonymous, user, *_ = people.names[row].split(b"\0")
            partition, entry = self._absorption(anonymous, user, bool(people.muted[row]))
            hot = self._layouts.head + values.tobytes()
            cold = self._layouts.cold(user, closed)
            into = commands[int(people.partition[row])]
            fields = ("e", entry, "h", hot, "c", cold, "p", position[int(people.partition[row])])
            if self.passes_on:
                into.add_packed(append(self._store.clock, partition, int(values[0]), *fields))
            people.table.empty(row)
            values[plan.origin] = origin
            evaluated.features[at] = people.evaluate(np.array([row]))[0]

    def _absorption(self, anonymous: bytes, user: bytes, muted: bool) -> tuple[int, bytes]:
        uid = identity(self._store, user)
        draft = Draft()
        draft.joins.append((draft.add(uid, user, 0, 0), anonymous))  # for the lake: whose history it was
        return uid % self._store.partitions, draft.encode(0, history=muted, kind=Kind.ABSORB)

    def _people_of(self, evaluated: Evaluated, flushes: dict[int, Flush], scored: Scored) -> None:
        """State and features of everybody who changed, some partitions at a time: all at once take much memory."""
        new, known, changed = self._news(evaluated)
        for parts in _blocks(self._by_partition(evaluated.rows)):
            first, last = parts[0].start, parts[-1].stop
            these = slice(first, last)
            block = Block(
                evaluated.rows[these],
                evaluated.features[these],
                changed[these],
                new[these],
                known[these],
                scored.fields[these],
            )
            here = [Part(part.partition, part.start - first, part.stop - first) for part in parts]
            self._write_people(block, here, flushes)

    def _write_people(self, block: Block, parts: list[Part], flushes: dict[int, Flush]) -> None:
        rows, table = block.rows, self._people.table
        uids = table.index.keys[rows]
        hot = hot_states(self._layouts.head, uids, table.values[rows])
        cold = table.cold_changed[rows]
        table.cold_changed[rows] = False
        names = [self._people.names[row].partition(b"\0")[0] for row in rows.tolist()]
        built = self._feature_bytes.commands(names, table.now(rows), block.features, block.changed, block.beside)
        for part in parts:
            flush = flushes[part.partition]
            for low in range(part.start, part.stop, TOGETHER):
                high = min(low + TOGETHER, part.stop)
                into = Commands()
                into.add_packed(mset(hot[low:high]))
                self._cold(rows, uids, low + np.flatnonzero(cold[low:high]), into)
                copied = low + np.flatnonzero(block.new[low:high])
                copies = [self._feature_bytes.copy(names[i]) for i in copied.tolist()]
                into.add_packed(b"".join(copies), len(copies))
                flush.copied += [self._feature_bytes.key(names[i]) for i in copied.tolist()]
                flush.written.append(Written(into.count, rows[low:high], block.known[low:high], rows[copied]))
                into.add_packed(b"".join(built[low:high]), high - low)
                flush.people.append(into)

    def _cold(self, rows: Array, uids: Array, at: Array, into: Commands) -> None:
        """Name and closed tiles of those for whom they changed."""
        people, cold, layouts, ids = self._people, list[bytes](), self._layouts, uids[at].tobytes()
        closed = people.table.closed(rows[at])
        for i, (row, each) in enumerate(zip(rows[at].tolist(), closed, strict=True)):
            cold += (keys.COLD + ids[8 * i : 8 * i + 8], layouts.cold(people.names[row], each))
        if cold:
            into.add("MSET", *cold)

    def _news(self, evaluated: Evaluated) -> tuple[Array, Array, Array]:
        """(new (n,), known (n,), changed (n, features)): who begins, whose hash is known, what is to be written."""
        people, rows, values = self._people, evaluated.rows, evaluated.features
        new = people.new[rows]
        people.new[rows] = False
        people.online.begin(rows[new], self._defaults)
        known = people.online.known[rows]
        return new, known, people.online.write(rows, values)

    def _serve(self, evaluated: Evaluated, commands: dict[int, Commands], scored: Scored) -> None:
        """What the people whom the lake follows were served goes on its way there."""
        people, position = self._people, {progress.partition: progress.position for progress in evaluated.progress}
        uids = people.table.index.keys[evaluated.rows]
        followed = self._served.followed(uids)
        for p, start, stop in self._by_partition(evaluated.rows[followed]):
            of_partition = followed[start:stop]
            sets = scored.sets[of_partition]
            for set_ in np.unique(sets).tolist():  # one, but for organisations with calibrations of their own
                at = of_partition[sets == set_]
                rows = evaluated.rows[at]
                names = [people.names[row].partition(b"\0")[0] for row in rows.tolist()]
                now, values = people.table.now(rows), evaluated.features[at]
                told = ServedRows(position[p], 0, uids[at], now, values, names, set_, scored.values[at])
                commands[p].add_packed(self._served.command(p, told))

    def _by_partition(self, rows: Array) -> list[Part]:
        """Each partition's part of rows that are sorted by partition."""
        if not len(rows):
            return []
        partition = self._people.partition[rows]
        cuts = (np.flatnonzero(partition[1:] != partition[:-1]) + 1).tolist()
        starts, stops = [0, *cuts], [*cuts, len(rows)]
        return list(map(Part, partition[starts].tolist(), starts, stops))

    def _slices(self, commands: dict[int, Commands]) -> None:
        """Each new person gets a minute of the day at which they are refreshed."""
        created, self._people.created = self._people.created, []
        for rows in created:
            uids = self._people.table.index.keys[rows]
            members, partitions = uids.view(np.int64).tolist(), self._people.partition[rows].tolist()
            for uid, member, p in zip(uids.tolist(), members, partitions, strict=True):
                minute = uid // self._store.partitions % 1440
                commands[p].add("SADD", keys.slice_of(p, minute), member)


def _blocks(parts: list[Part]) -> Iterator[list[Part]]:
    """Partitions next to each other, until they are enough people."""
    block = list[Part]()
    for part in parts:
        block.append(part)
        if part.stop - block[0].start >= BLOCK:
            yield block
            block = []
    if block:
        yield block
