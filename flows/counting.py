"""Counting: what entries of the log change in people and in what is known of partitions, in memory alone."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator

import numpy as np
import redis

from feature_repo import keys
from feature_repo.declare import Array
from feature_repo.vocabulary import PUSHED, UNKNOWN
from flows.batch import Batch, gather
from flows.codebooks import Codebooks
from flows.entry import Entry, Kind, events_in, unpack_raw
from flows.eras import begun, code, loaded
from flows.index import Seen
from flows.outcome_events import OutcomeEvent, Outcomes
from flows.people import People
from flows.plan import LACKING
from flows.progress import Dead, Progress
from flows.resp import Connection, pack
from flows.state import Layouts, is_later
from flows.streams import Read

_log = logging.getLogger(__name__)


class Counting:
    """What the log told since the last flush, by partition, and the people whom it changed.

    `position`: up to which entry each partition is counted. Where there is no room for more people, `settle` waits for
    what is being written, and `flush` writes all that was counted.
    """

    def __init__(
        self,
        people: People,
        seen: Seen,
        codebooks: Codebooks,
        layouts: Layouts,
        slices: Connection,
        position: dict[int, bytes],
        partitions: int,
        settle: Callable[[], None],
        flush: Callable[[], None],
    ) -> None:
        self.people, self.seen, self.position = people, seen, position
        self.plan = people.table.plan
        self.progress: dict[int, Progress] = {}
        self.events = 0
        self.clock_ms = 0
        self.history = False
        self._codebooks, self._layouts, self._slices = codebooks, layouts, slices
        self._partitions = partitions  # of the store
        self._settle, self._flush = settle, flush
        self._outcomes = Outcomes(self.plan.vocabulary)

    def count(self, reads: list[Read]) -> None:
        """Events together, and what passes from one person to another in between."""
        for group in self._grouped(reads):
            if _holds_events(group[0]):
                self._count_events(group)
            else:
                self._count_other(group[0])
            for read in group:
                progress = self.progress.get(read.partition) or self.of(read.partition)
                progress.position = self.position[read.partition] = read.id

    def _grouped(self, reads: list[Read]) -> Iterator[list[Read]]:
        """Entries of events together, as many as the table surely has room for; each other entry by itself."""
        group: list[Read] = []
        events = 0
        for read in reads:
            size = len(read.entry) if self._is_readable(read) and read.entry is not None else 0
            together = _holds_events(read) and events + size <= self.people.capacity // 2
            if group and not (together and _holds_events(group[0])):
                yield group
                group, events = [], 0
            group.append(read)
            events += size
        if group:
            yield group

    def _is_readable(self, read: Read) -> bool:
        entry = read.entry
        if entry is not None and entry.kind == Kind.EVENTS and not self._codebooks.knows(entry.fingerprint):
            read.error, read.entry = f"no codebook for vocabulary {entry.fingerprint}", None
        return read.entry is not None

    def _count_other(self, read: Read) -> None:
        if read.entry is None:
            self._set_aside(read)
        elif read.entry.kind == Kind.TICK:
            self._tick(read, read.entry)
        elif read.entry.kind == Kind.PUSH:  # written by the door, kept by the lake: nothing here is made of it
            self._pass_over(read.partition, len(read.entry))
        elif read.entry.kind == Kind.LOAD:
            self._load(read, read.entry)
        else:
            self._absorb(read, read.entry)

    def _pass_over(self, partition: int, rows: int) -> None:
        there = self.progress.get(partition)
        patient = there is None or there.patient
        progress = self.of(partition)
        progress.counts["processed"] += rows
        progress.patient = patient

    def _set_aside(self, read: Read) -> None:
        raw = read.fields.get(b"r")
        progress = self.of(read.partition)
        progress.counts["quarantined"] += events_in(raw) if raw else 0
        progress.dead.append(Dead(read.id, read.error, read.fields))
        _log.error("partition %d, entry %s set aside: %s", read.partition, read.id.decode(), read.error)

    def _count_events(self, reads: list[Read]) -> None:
        if not reads:
            return
        batch = gather(reads, self._codebooks.maps)
        if not len(batch):
            return
        self.events += len(batch)
        self.clock_ms = max(self.clock_ms, int(batch.now.max()))
        self.history = bool(batch.muted[-1])
        self.make_room(batch.uid)
        first = self._first(batch)
        at = np.flatnonzero(first & batch.touches())
        rows = self.people.find(batch.uid[at], batch.partition[at], lambda i: batch.name(int(at[i])))
        self.people.new[rows[batch.code[at] == PUSHED]] = False  # the door made their hash: a copy would come too late
        late = np.zeros(len(batch), bool)
        late[at] = self.people.table.apply(rows, batch.code[at], batch.value[at], batch.ts[at], batch.now[at])
        late &= ~batch.timeless
        row_of = np.full(len(batch), -1)
        row_of[at] = rows
        self._traits(batch, row_of)
        self._joins(batch, row_of)
        self.people.mark(rows, batch.muted[at])
        self._came_about(batch, row_of, first & ~late & ~batch.muted)
        self._tally(batch, first, late)

    def _first(self, batch: Batch) -> Array:
        """Which events are no duplicates; remembers them."""
        external = np.flatnonzero(~batch.internal)
        message, minute = batch.message[external], batch.minute[external]
        fresh = self.seen.first(message, minute)
        first = np.ones(len(batch), bool)
        first[external] = fresh
        partition = batch.partition[external][fresh]
        order = np.argsort(partition, kind="stable")
        message, minute, partition = message[fresh][order], minute[fresh][order], partition[order]
        cuts = np.flatnonzero(np.diff(partition, prepend=-1))
        for start, end in zip(cuts.tolist(), [*cuts[1:].tolist(), len(order)], strict=False):  # none: all are known
            self.of(int(partition[start])).remember(message[start:end], minute[start:end])
        return first

    def _tally(self, batch: Batch, first: Array, late: Array) -> None:
        external = ~batch.internal
        unknown = first & (batch.code == UNKNOWN)
        masks = {
            "duplicate": ~first,
            "unknown": unknown,
            "late": late,
            "processed": first & ~unknown & ~late,
        }
        for name, mask in masks.items():
            counts = np.bincount(batch.partition[mask & external], minlength=self._partitions)
            for p in np.flatnonzero(counts).tolist():
                self.of(p).counts[name] += int(counts[p])

    def _traits(self, batch: Batch, row_of: Array) -> None:
        for start, entry in zip(batch.starts.tolist(), batch.entries, strict=True):
            if len(entry.trait_at):
                at, traits = start + entry.trait_at.astype(np.int64), self._codebooks.traits(entry)
                there = (row_of[at] >= 0) & (traits >= 0)
                ts = np.minimum(batch.ts[at], batch.now[at])[there]
                self.people.table.apply_traits(row_of[at[there]], traits[there], entry.trait_bits[there], ts)

    def _joins(self, batch: Batch, row_of: Array) -> None:
        for start, entry in zip(batch.starts.tolist(), batch.entries, strict=True):
            for k, i in enumerate(entry.join_at.tolist()):
                row, at = int(row_of[start + i]), int(min(batch.ts[start + i], batch.now[start + i]))
                if row >= 0 and is_later(self.people.names[row], at):
                    anonymous = self.people.names[row].partition(b"\0")[0]
                    self.people.names[row] = b"\0".join((anonymous, entry.join(k), b"%d" % at))
                    self.people.relay[row] = self.people.table.cold_changed[row] = True

    def _came_about(self, batch: Batch, row_of: Array, counted: Array) -> None:
        """Outcome events, for those who learn from them: of the user whom somebody anonymous turned out to be."""
        found = self._outcomes.among(batch.code)
        for i in found[counted[found]].tolist():
            anonymous, _, joined = self.people.names[row_of[i]].partition(b"\0")
            person = joined.partition(b"\0")[0] or anonymous
            told = person.decode(errors="replace"), self._outcomes.names[batch.code[i]]
            event = OutcomeEvent(*told, int(min(batch.ts[i], batch.now[i])), int(batch.now[i]))
            self.of(int(batch.partition[i])).outcomes.append(event)

    def _absorb(self, read: Read, entry: Entry) -> None:
        """An anonymous person's history joins the user whom they turned out to be."""
        hot, _, closed = self._layouts.read([read.fields[b"h"]], [read.fields[b"c"]])
        self.make_room(entry.uid)
        row = self.people.find(entry.uid, np.array([read.partition]), entry.name)
        table = self.people.table
        if not table.now(row)[0]:  # begun by this: known since what is joined was passed on
            table.values[row, self.plan.origin] = begun(self._layouts.era(read.fields[b"h"]))
        table.touch(row, np.maximum(read.ms, hot[0, :1]))
        table.absorb(int(row[0]), hot[0], closed[0])
        self.people.mark(row, entry.history)

    def _load(self, read: Read, entry: Entry) -> None:
        """What the lake has of people from before today's vocabulary, once for each. It opens no alert by itself."""
        hot, cold = unpack_raw(read.fields[b"h"]), unpack_raw(read.fields[b"c"])
        chunk = min(256, self.people.capacity)
        for low in range(0, len(entry), chunk):
            part = slice(low, low + chunk)
            uids = entry.uid[part]
            names = [entry.name(low + i) for i in range(len(uids))]
            self.make_room(uids)
            rows = self.people.find(uids, np.full(len(uids), read.partition), names.__getitem__)
            self.of(read.partition)
            self.people.table.touch(rows, np.full(len(rows), read.ms))
            self._bring(rows, entry.value[part], hot[part], cold[part])
            self.people.mark(rows, self.people.muted[rows] | ~self.people.dirty[rows])

    def _bring(self, rows: Array, expected: Array, hot: list[bytes], cold: list[bytes]) -> None:
        """To those whose origin is as expected: others have it already, or lack something else by now."""
        origin = self.people.table.values[rows, self.plan.origin]
        due = np.flatnonzero(code(origin) == expected)
        if len(due):
            brought, _, closed = self._layouts.read([hot[i] for i in due], [cold[i] for i in due])
            self.people.table.load(rows[due], brought, closed)
            since = loaded(self._layouts.era(hot[0]))
            self.people.table.values[rows[due], self.plan.origin] = (origin[due] & LACKING) | since

    def _tick(self, read: Read, entry: Entry) -> None:
        """Time has passed: the people of the due slices are brought up to it."""
        first, last = entry.ts.tolist()
        slices = {minute % 1440 for minute in range(first, last + 1)}
        commands = [pack("SMEMBERS", keys.slice_of(read.partition, s)) for s in slices]
        self._slices.send(b"".join(commands))
        members = [int(uid) for _ in commands for uid in self._slices.read()]
        self.clock_ms = max(self.clock_ms, read.ms)
        uids = np.array(members, np.int64).view(np.uint64)
        chunk = min(4096, self.people.capacity)
        for low in range(0, len(uids), chunk):
            due = uids[low : low + chunk]
            self.make_room(due)
            rows = self.people.known(due, read.partition)
            self.of(read.partition)  # they are written with this partition, at the position before the tick
            self.people.table.touch(rows, np.full(len(rows), read.ms))
            self.people.mark(rows, entry.history)
        self.of(read.partition).tick = last

    def make_room(self, uids: Array) -> None:
        """Room for those of these people who are not here; where too many wait to be written, they are first.

        To be called before anything of an entry is counted, since what is written then is the state before it.
        """
        if self.people.room() >= len(uids):
            return
        wanted = len(self.people.absent(uids))
        if self.people.room() >= wanted:
            return
        for free in (None, self._settle, self._flush):
            if free:
                free()
            self.people.evict(max(wanted, self.people.capacity // 16), uids)
            if self.people.room() >= wanted:
                return

    def is_awaited(self) -> bool:
        """Whether somebody waits for what was counted to be written."""
        return not all(progress.patient for progress in list(self.progress.values()))

    def of(self, partition: int) -> Progress:
        """For what somebody waits for."""
        progress = self.progress.get(partition)
        if progress is None:
            progress = self.progress[partition] = Progress(partition)
            progress.since = time.monotonic()
            progress.position = self.position[partition]
        progress.patient = False
        return progress

    def recall(self, client: redis.Redis) -> dict[int, deque[int]]:
        """Fill the memory of messages with what earlier owners wrote down, the oldest minute first.

        Returns the minutes that each partition has written down.
        """
        written = {p: [int(m) for m in client.zrange(keys.seen_minutes(p), 0, -1)] for p in self.position}
        for minute in sorted({m for minutes in written.values() for m in minutes}):
            there = client.mget([keys.seen(p, minute) for p in self.position])
            ids = np.frombuffer(b"".join(ids for ids in there if ids), np.uint64)
            self.seen.first(ids, np.full(len(ids), minute))
        return {p: deque(minutes) for p, minutes in written.items()}


def _holds_events(read: Read) -> bool:
    return read.entry is not None and read.entry.kind == Kind.EVENTS
