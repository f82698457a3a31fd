"""Everything that one flush writes, as one transaction a partition."""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec
import numpy as np

from feature_repo import keys
from feature_repo.declare import Array
from flows.entry import Draft, Kind
from flows.people import People
from flows.plan import Plan
from flows.scoring import Evaluated
from flows.served import Served, ServedRows
from flows.state import Layouts, identity
from flows.store import Store
from flows.streams import append
from flows.writer import Commands, FeatureBytes, hot_states, mset


class Written(msgspec.Struct):
    """Where one partition's feature commands stand among its replies, whose they are, and whether whole before.

    Those of `copied` begin as copies of the defaults; their commands stand just before.
    """

    at: int
    rows: Array
    known: Array
    copied: Array

    def incomplete(self, replies: list[Any]) -> Array:
        """Rows whose hash is not whole: it gained fields where all were known, or was there before its copy."""
        at = self.at - len(self.copied)
        there = np.array(replies[at : self.at], bool)
        gained = np.array(replies[self.at : self.at + len(self.rows)], np.int64) > 0
        return np.concatenate((self.copied[~there], self.rows[gained & self.known]))


class Transactions:
    """Builds the commands of a flush from the table."""

    def __init__(
        self, plan: Plan, people: People, layouts: Layouts, store: Store, dedup_minutes: int, served: Served
    ) -> None:
        self._plan, self._people, self._layouts, self._store = plan, people, layouts, store
        self._served = served
        self._feature_bytes = FeatureBytes(plan.vocabulary)
        self._defaults = np.array([feature.default for feature in plan.vocabulary.features])
        self._horizon = dedup_minutes
        self.passes_on = True  # not while a log is filled again: what was passed on is in it

    def defaults(self) -> list[bytes | str]:
        """A command to run before the first transaction: the features that somebody new begins with."""
        return self._feature_bytes.defaults()

    def build(
        self, evaluated: Evaluated, minutes: dict[int, deque[int]]
    ) -> tuple[dict[int, Commands], dict[int, Written]]:
        """(commands, where the features stand in them) by partition; `minutes`: those that have a `seen` key."""
        commands = {progress.partition: Commands() for progress in evaluated.progress}
        self._pass_on(evaluated, commands)
        self._states(evaluated.rows, commands)
        written = self._features(evaluated, commands)
        self._serve(evaluated, commands)
        self._slices(commands)
        for progress in evaluated.progress:
            into = commands[progress.partition]
            for alert in evaluated.alerts.get(progress.partition, ()):
                into.add("XADD", keys.ALERTS, "*", "a", alert)
            progress.commands(into, minutes[progress.partition], self._horizon)
        return commands, written

    def _pass_on(self, evaluated: Evaluated, commands: dict[int, Commands]) -> None:
        """What an identified anonymous person has gathered goes to the user's partition."""
        people, plan = self._people, self._plan
        position = {progress.partition: progress.position for progress in evaluated.progress}
        for at in np.flatnonzero(people.relay[evaluated.rows]).tolist():
            row = int(evaluated.rows[at])
            values, closed = people.table.values[row], people.table.cold[row]
            change = self._layouts.eras.change(int(values[plan.origin]))
            if not (values[plan.today : plan.hot].any() or closed or change):
                continue
            origin, values[plan.origin] = values[plan.origin] + change, change
            anonymous, user, *_ = people.names[row].split(b"\0")
            partition, entry = self._absorption(anonymous, user, bool(people.muted[row]))
            hot = self._layouts.head + values[: plan.hot].tobytes()
            cold = self._layouts.cold(user, closed)
            into = commands[int(people.partition[row])]
            fields = ("e", entry, "h", hot, "c", cold, "p", position[int(people.partition[row])])
            if self.passes_on:
                into.add_packed(append(self._store.clock, partition, int(values[0]), *fields))
            values[1:] = 0
            values[plan.origin] = origin
            people.table.cold[row] = b""
            people.table.cold_changed[row] = True
            evaluated.features[at] = people.evaluate(np.array([row]))[0]

    def _absorption(self, anonymous: bytes, user: bytes, muted: bool) -> tuple[int, bytes]:
        uid = identity(self._store, user)
        draft = Draft()
        draft.joins.append((draft.add(uid, user, 0, 0), anonymous))  # for the lake: whose history it was
        return uid % self._store.partitions, draft.encode(0, history=muted, kind=Kind.ABSORB)

    def _states(self, rows: Array, commands: dict[int, Commands]) -> None:
        table, people = self._people.table, self._people
        uids = table.index.keys[rows]
        hot = hot_states(self._layouts.head, uids, table.values[rows, : self._plan.hot])
        changed = table.cold_changed[rows]
        table.cold_changed[rows] = False
        for p, start, end in self._by_partition(rows):
            commands[p].add_packed(mset(hot[start:end]))
            cold: list[bytes] = []
            for at in (start + np.flatnonzero(changed[start:end])).tolist():
                row = int(rows[at])
                cold += (keys.COLD + uids[at].tobytes(), self._layouts.cold(people.names[row], table.cold[row]))
            if cold:
                commands[p].add("MSET", *cold)

    def _features(self, evaluated: Evaluated, commands: dict[int, Commands]) -> dict[int, Written]:
        people, rows, values = self._people, evaluated.rows, evaluated.features
        new = people.new[rows]
        people.new[rows] = False
        people.written[rows[new]] = self._defaults
        known = ~np.isnan(people.written[rows, 0])
        nulls = np.isnan(values)
        kept = np.where(nulls, np.inf, values) if nulls.any() else values  # inf: null, as NaN says that it is not known
        changed = people.written[rows] != kept
        people.written[rows] = kept
        names = [people.names[row].partition(b"\0")[0] for row in rows.tolist()]
        built = self._feature_bytes.commands(names, people.table.now(rows), values, changed)
        written = {}
        for p, start, end in self._by_partition(rows):
            copied = np.flatnonzero(new[start:end]) + start
            commands[p].add_packed(b"".join(self._feature_bytes.copy(names[i]) for i in copied.tolist()), len(copied))
            written[p] = Written(commands[p].count, rows[start:end], known[start:end], rows[copied])
            commands[p].add_packed(b"".join(built[start:end]), end - start)
        return written

    def _serve(self, evaluated: Evaluated, commands: dict[int, Commands]) -> None:
        """What the people whom the lake follows were served goes on its way there."""
        people, position = self._people, {progress.partition: progress.position for progress in evaluated.progress}
        uids = people.table.index.keys[evaluated.rows]
        followed = self._served.followed(uids)
        for p, start, end in self._by_partition(evaluated.rows[followed]):
            at = followed[start:end]
            rows = evaluated.rows[at]
            names = [people.names[row].partition(b"\0")[0] for row in rows.tolist()]
            told = ServedRows(position[p], 0, uids[at], people.table.now(rows), evaluated.features[at], names)
            commands[p].add_packed(self._served.command(p, told))

    def _by_partition(self, rows: Array) -> list[tuple[int, int, int]]:
        """(partition, start, end) of each partition's part of rows that are sorted by partition."""
        if not len(rows):
            return []
        partition = self._people.partition[rows]
        cuts = (np.flatnonzero(partition[1:] != partition[:-1]) + 1).tolist()
        starts, ends = [0, *cuts], [*cuts, len(rows)]
        return list(zip(partition[starts].tolist(), starts, ends, strict=True))

    def _slices(self, commands: dict[int, Commands]) -> None:
        """Each new person gets a minute of the day at which they are refreshed."""
        created, self._people.created = self._people.created, []
        for rows in created:
            for row, uid in zip(rows.tolist(), self._people.table.index.keys[rows], strict=True):
                p = int(self._people.partition[row])
                minute = int(uid) // self._store.partitions % 1440
                commands[p].add("SADD", keys.slice_of(p, minute), int(uid.view(np.int64)))
