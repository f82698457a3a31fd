"""The engine: one micro-batch at a time from the log to the store. Plain methods, joined by `alerting.py`.

It owns partitions; what it knows of people is a cache. Everything it writes for a partition goes in one
transaction with the position, so it may die at any moment and another goes on from there.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import redis

from feature_repo import keys
from feature_repo.declare import Array
from feature_repo.settings import Settings
from feature_repo.vocabulary import PUSHED, UNKNOWN, Vocabulary
from flows.batch import Batch, gather
from flows.codebooks import Codebooks
from flows.entry import Entry, Kind, events_in, unpack_raw
from flows.eras import begun, code, loaded
from flows.index import Seen
from flows.lookups import Lookups
from flows.partition import Partition
from flows.people import People
from flows.plan import LACKING, Plan
from flows.progress import Dead, Progress
from flows.resp import Connection, StoreError, pack
from flows.scoring import Evaluated, Scorer
from flows.served import Served
from flows.state import Layouts, is_later
from flows.store import Store
from flows.streams import LogReader, Read
from flows.transaction import Flush, Transactions
from flows.writer import Job, Writer
from onnx_models.session import Model

_log = logging.getLogger(__name__)
IDLE_MS = 5  # how long a read waits when there is nothing to do
CONFLATE_MS = 900  # how long changes wait for more while the log runs ahead
_NOBODY = np.zeros(0, np.uint64)
BUSY_S = 0.002  # how long it waits for a write under way before it reads on


class Engine:
    """All partitions of one worker."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        settings: Settings,
        store: Store,
        client: redis.Redis,
        dial: Callable[[], Connection],
        models: dict[str, Model],
        partitions: Iterable[int] | None = None,
        owner: str = "engine",
    ) -> None:
        self.plan = Plan(vocabulary)
        self.settings, self.store, self.client, self.models = settings, store, client, models
        self._codebooks = Codebooks(vocabulary, client)
        numbers = range(store.partitions) if partitions is None else partitions
        self._dial, self._connections = dial, list[Connection]()
        self.partitions = {p: self._own(p, owner) for p in numbers}
        self._position = {p: part.position for p, part in self.partitions.items()}  # counted up to there
        self._layouts = layouts = Layouts(self.plan, client)
        layouts.register(self._position)
        if short := layouts.eras.short():
            _log.info("null for people known before, until `telltale backfill --load`: %s", ", ".join(short))
        self.reader = LogReader(self._connection(), self._position)
        self._slices = self._connection()
        self._lookups = Lookups(self._slices, self._connection())
        self._held: list[Read] = []  # read, their people asked for, not yet counted
        self.people = People(self.plan, layouts, self._lookups, settings.cache_users)
        self.seen = Seen(settings.dedup_ids, settings.dedup_hours * 60)
        self._minutes = self._recall()
        self.writer = Writer()
        self._scorer = Scorer(self.plan, models, self.people, settings.cooldown_days)
        served = Served(self.plan, store, settings.lake_features)
        served.register(client)
        self._transactions = Transactions(self.plan, self.people, layouts, store, settings.dedup_hours * 60, served)
        client.execute_command(*self._transactions.defaults())
        self._progress: dict[int, Progress] = {}
        self.written_users = self.events = 0
        self.clock_ms = 0
        self.history = False

    def _connection(self) -> Connection:
        connection = self._dial()
        self._connections.append(connection)
        return connection

    def _own(self, partition: int, owner: str) -> Partition:
        try:
            return Partition(partition, self.client, self._connection(), owner)
        except StoreError:
            for connection in self._connections:
                connection.close()
            raise

    # -- read

    def read(self) -> list[Read]:
        """What has come. Waits a little when there is nothing to write either."""
        pending = bool(self._progress)
        if self.people.many():  # more would make the next write too large for the store to take quickly
            self.writer.ready(0.1)
            return []
        if self._held or (pending and not self.writer.ready(BUSY_S)):
            return self._ahead(self.reader.read(0))
        return self._ahead(self.reader.read(0 if pending else IDLE_MS))

    def _ahead(self, reads: list[Read]) -> list[Read]:
        """What to count now: all while the log keeps up, else what was read before.

        The people of what is held are looked up meanwhile, since a store that is writing answers late.
        """
        held, self._held = self._held, []
        if self.reader.caught_up:
            self._lookups.collect()
            return held + reads
        self._held = reads
        uids = [read.entry.uid for read in reads if read.entry is not None]
        self._lookups.ask(self.people.absent(np.concatenate(uids)) if uids else _NOBODY)
        return held

    # -- count

    def count(self, reads: list[Read]) -> list[Read]:
        """Count what was read: events together, and what passes from one person to another in between."""
        with self._stage("count", _worked(reads)):
            for group in self._grouped(reads):
                if _holds_events(group[0]):
                    self._count_events(group)
                else:
                    self._count_other(group[0])
                for read in group:
                    self._of(read.partition).position = self._position[read.partition] = read.id
        return reads

    def _grouped(self, reads: list[Read]) -> Iterator[list[Read]]:
        """Entries of events together, as many as the table surely has room for; each other entry by itself."""
        group: list[Read] = []
        events = 0
        for read in reads:
            size = len(read.entry) if self._is_readable(read) and read.entry is not None else 0
            together = _holds_events(read) and events + size <= self.settings.cache_users // 2
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
            self._of(read.partition).counts["processed"] += len(read.entry)
        elif read.entry.kind == Kind.LOAD:
            self._load(read, read.entry)
        else:
            self._absorb(read, read.entry)

    def _set_aside(self, read: Read) -> None:
        raw = read.fields.get(b"r")
        progress = self._of(read.partition)
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
        self._make_room(batch.uid)
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
            self._of(int(partition[start])).remember(message[start:end], minute[start:end])
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
            counts = np.bincount(batch.partition[mask & external], minlength=self.store.partitions)
            for p in np.flatnonzero(counts).tolist():
                self._of(p).counts[name] += int(counts[p])

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

    def _absorb(self, read: Read, entry: Entry) -> None:
        """An anonymous person's history joins the user whom they turned out to be."""
        hot, _, closed = self._layouts.read([read.fields[b"h"]], [read.fields[b"c"]])
        self._make_room(entry.uid)
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
        chunk = min(256, self.settings.cache_users)
        for low in range(0, len(entry), chunk):
            part = slice(low, low + chunk)
            uids = entry.uid[part]
            names = [entry.name(low + i) for i in range(len(uids))]
            self._make_room(uids)
            rows = self.people.find(uids, np.full(len(uids), read.partition), names.__getitem__)
            self._of(read.partition)
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
        chunk = min(4096, self.settings.cache_users)
        for low in range(0, len(uids), chunk):
            due = uids[low : low + chunk]
            self._make_room(due)
            rows = self.people.known(due, read.partition)
            self._of(read.partition)  # they are written with this partition, at the position before the tick
            self.people.table.touch(rows, np.full(len(rows), read.ms))
            self.people.mark(rows, entry.history)
        self._of(read.partition).tick = last

    def _make_room(self, uids: Array) -> None:
        """Room for those of these people who are not here; where too many wait to be written, they are first.

        To be called before anything of an entry is counted, since what is written then is the state before it.
        """
        if self.people.room() >= len(uids):
            return
        wanted = len(self.people.absent(uids))
        if self.people.room() >= wanted:
            return
        self.writer.settle()
        self.people.evict(max(wanted, self.settings.cache_users // 16), uids)
        if self.people.room() < wanted:
            self.flush()
            self.people.evict(wanted, uids)

    def _of(self, partition: int) -> Progress:
        progress = self._progress.get(partition)
        if progress is None:
            progress = self._progress[partition] = Progress(partition)
            progress.since = time.monotonic()
            progress.position = self._position[partition]
        return progress

    def _recall(self) -> dict[int, deque[int]]:
        """Fill the memory of messages with what earlier owners wrote down, the oldest minute first.

        Returns the minutes that each partition has written down.
        """
        written = {p: [int(m) for m in self.client.zrange(keys.seen_minutes(p), 0, -1)] for p in self.partitions}
        for minute in sorted({m for minutes in written.values() for m in minutes}):
            there = self.client.mget([keys.seen(p, minute) for p in self.partitions])
            ids = np.frombuffer(b"".join(ids for ids in there if ids), np.uint64)
            self.seen.first(ids, np.full(len(ids), minute))
        return {p: deque(minutes) for p, minutes in written.items()}

    # -- write

    def conflate(self, reads: list[Read]) -> list[list[Progress]]:
        """What is due: all that changed, at once while the log keeps up, together for a while when it does not.

        So a hot person is written once for many events.
        """
        behind = not self.reader.caught_up and self.oldest_unflushed_ms() < CONFLATE_MS
        if not self._progress or (behind and not self.people.many()) or not self.writer.ready():
            return []
        return [self._due()]

    def _due(self) -> list[Progress]:
        due, self._progress = list(self._progress.values()), {}
        return due

    def evaluate(self, due: list[Progress]) -> Evaluated:
        """The features of everybody who changed."""
        rows = np.flatnonzero(self.people.dirty)
        rows = rows[np.argsort(self.people.partition[rows], kind="stable")]
        with self._stage("features", self.people.partition[rows]):
            self.people.dirty[rows] = False
            return Evaluated(due, rows, self.people.evaluate(rows))

    def score(self, evaluated: Evaluated) -> Evaluated:
        """Every model's scores of everybody who changed."""
        with self._stage("scores", self.people.partition[evaluated.rows]):
            self._scorer.score(evaluated)
        return evaluated

    def decide(self, evaluated: Evaluated) -> Evaluated:
        """Episodes that open are alerts."""
        with self._stage("episodes", self.people.partition[evaluated.rows]):
            self._scorer.decide(evaluated)
        return evaluated

    def write(self, evaluated: Evaluated) -> None:
        """Hand each partition's transaction to the writer."""
        with self._stage("build", self.people.partition[evaluated.rows]):
            flushes = self._transactions.build(evaluated, self._minutes)
            self.writer.submit([self._job(progress, flushes[progress.partition]) for progress in evaluated.progress])
            self.written_users += len(evaluated.rows)

    def _job(self, progress: Progress, flush: Flush) -> Job:
        partition = self.partitions[progress.partition]

        def done(replies: list[list[Any]]) -> None:
            partition.position = progress.position
            self._check_fields(progress.partition, flush.incomplete(replies))

        return Job(partition, flush.people, flush.rest, flush.copied, self._transactions.defaults_key, done)

    def _check_fields(self, partition: int, lost: Array) -> None:
        """A hash that is not whole was expired, deleted or somebody else's: write it whole next time."""
        if len(lost):
            self.people.written[lost] = np.nan
            self.people.dirty[lost] = True
            self._of(partition)

    # -- housekeeping

    def flush(self) -> None:
        """Write everything that was counted and wait for it."""
        self.writer.settle()
        while self._progress:
            self.write(self.decide(self.score(self.evaluate(self._due()))))
            self.writer.settle()

    def close(self) -> None:
        """Write what is due and give the partitions back."""
        self.flush()
        for partition in self.partitions.values():
            partition.release()
        self.abandon()

    def abandon(self) -> None:
        """Let go of thread and connections: what was not written will be counted again."""
        self.writer.close()
        for connection in self._connections:
            connection.close()

    def oldest_unflushed_ms(self) -> float:
        oldest = min((p.since for p in list(self._progress.values())), default=None)
        return 0.0 if oldest is None else (time.monotonic() - oldest) * 1000

    def unflushed_ms(self) -> dict[int, float]:
        """How long the oldest change of each partition has waited to be written."""
        now, due = time.monotonic(), dict(self._progress)
        return {p: (now - due[p].since) * 1000 if p in due else 0.0 for p in self.partitions}

    def _stage(self, name: str, partitions: Array) -> AbstractContextManager[None]:
        return self.people.meters.timed(f"stage_seconds_total:{name}", partitions)


def _worked(reads: list[Read]) -> Array:
    """Whose work these reads are: each partition once an entry and once an event of it."""
    return np.repeat([r.partition for r in reads], [1 + (len(r.entry) if r.entry else 0) for r in reads])


def _holds_events(read: Read) -> bool:
    return read.entry is not None and read.entry.kind == Kind.EVENTS
