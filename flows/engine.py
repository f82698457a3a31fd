"""The engine: one micro-batch at a time from the log to the store. Plain methods, joined by `alerting.py`.

It owns partitions; what it knows of people is a cache. Everything it writes for a partition goes in one
transaction with the position, so it may die at any moment and another goes on from there.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import redis

from feature_repo.declare import Array
from feature_repo.settings import Settings
from feature_repo.vocabulary import Vocabulary
from flows.codebooks import Codebooks
from flows.counting import Counting
from flows.flush import Flush
from flows.gaps import Gaps, unworked
from flows.index import Seen
from flows.lookups import Lookups
from flows.partition import Partition
from flows.people import People
from flows.plan import Plan
from flows.progress import Progress
from flows.resp import Connection, StoreError
from flows.scored import LastScores
from flows.scoring import Evaluated, Scorer
from flows.served import Served
from flows.state import Layouts
from flows.store import Store
from flows.streams import LogReader, Read
from flows.transaction import Transactions
from flows.writer import Job, Writer
from onnx_models.session import Model

_log = logging.getLogger(__name__)
IDLE_MS = 5  # how long a read waits when there is nothing to do
CONFLATE_MS = 900  # how long changes wait for more while the log runs ahead
PATIENT_MS = 50  # how long what nobody waits for does
_NOBODY = np.zeros(0, np.uint64)
BUSY_S = 0.002  # how long it waits for a write under way before it reads on


class Engine:
    """The partitions of one worker, as long as they are the same."""

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
        self.settings, self.store, self.client, self.owner = settings, store, client, owner
        numbers = range(store.partitions) if partitions is None else partitions
        self._dial, self._connections = dial, list[Connection]()
        self.partitions = {p: self._own(p, owner) for p in numbers}
        position = {p: part.position for p, part in self.partitions.items()}
        layouts = Layouts(self.plan, client)
        layouts.register(position)
        if short := layouts.eras.short():
            _log.info("null for people known before, until `telltale backfill --load`: %s", ", ".join(short))
        self.reader = LogReader(self._connection(), position)
        slices = self._slices = self._connection()
        self._lookups = Lookups(slices, self._connection())
        self._gaps = Gaps()
        self._held: list[Read] = []  # read, their people asked for, not yet counted
        self.people = People(self.plan, layouts, self._lookups, settings.cache_users)
        self.writer = Writer()
        self.counting = Counting(
            self.people,
            Seen(settings.dedup_ids, settings.dedup_hours * 60),
            Codebooks(vocabulary, client),
            layouts,
            slices,
            position,
            store.partitions,
            self.writer.settle,
            self.flush,
        )
        self._minutes = self.counting.recall(client)
        self._scorer = Scorer(self.plan, models, self.people, settings.cooldown_days, settings.withheld)
        served = Served(self.plan, store, settings.lake_features)
        served.register(client)
        scored = LastScores([service.name for service in self.plan.alerts], client)
        self._transactions = Transactions(
            self.plan, self.people, layouts, store, settings.dedup_hours * 60, served, scored
        )
        client.execute_command(*self._transactions.defaults())
        self.written_users = 0

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
        pending = self.counting.is_awaited()
        if self.people.many():  # more would make the next write too large for the store to take quickly
            self.writer.ready(0.1)
            return []
        if self._held or (pending and not self.writer.ready(BUSY_S)):
            return self._ahead(self.reader.read(0))
        if not pending and self._gaps.due() and self.reader.caught_up and self.writer.idle():
            self._look_for_gaps()
        return self._ahead(self.reader.read(0 if pending else IDLE_MS))

    def _look_for_gaps(self) -> None:
        """Nothing is in memory that was not written: what is then still missing never comes."""
        for p, partition in self.partitions.items():
            at = partition.position
            if self.reader.positions[p] == at and (gone := unworked(self._slices, p, at, partition.epoch)) > 0:
                _log.error(
                    "partition %d: %d accepted events are lost: gone from the log before they were worked; "
                    "`telltale doctor` says what to do", p, gone
                )  # fmt: skip

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
        """Count what was read."""
        with self._stage("count", _worked(reads)):
            self.counting.count(reads)
        return reads

    # -- write

    def conflate(self, reads: list[Read]) -> list[list[Progress]]:
        """What is due: all that changed, at once while the log keeps up, together for a while when it does not.

        So a hot person is written once for many events.
        """
        if not self.counting.progress or (self._can_wait() and not self.people.many()) or not self.writer.ready():
            return []
        return [self._due()]

    def _can_wait(self) -> bool:
        waited = self.oldest_unflushed_ms()
        if not self.counting.is_awaited():
            return waited < PATIENT_MS
        return not self.reader.caught_up and waited < CONFLATE_MS

    def _due(self) -> list[Progress]:
        due, self.counting.progress = list(self.counting.progress.values()), {}
        return due

    def evaluate(self, due: list[Progress]) -> Evaluated:
        """The features of everybody who changed."""
        rows = np.flatnonzero(self.people.dirty)
        rows = rows[np.argsort(self.people.partition[rows], kind="stable")]
        with self._stage("features", self.people.partition[rows]):
            self.people.dirty[rows] = False
            return Evaluated(due, rows, self.people.evaluate(rows))

    @property
    def models(self) -> dict[str, Model]:
        """By service; who replaces them does it between two batches, as a whole."""
        return self._scorer.models

    @models.setter
    def models(self, models: dict[str, Model]) -> None:
        self._scorer.models = models

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
            self.people.writing[evaluated.rows] += 1
            self.written_users += len(evaluated.rows)

    def _job(self, progress: Progress, flush: Flush) -> Job:
        partition = self.partitions[progress.partition]

        def done(replies: list[list[Any]]) -> None:
            partition.position = progress.position
            for written in flush.written:
                self.people.writing[written.rows] -= 1
            self._check_fields(progress.partition, flush.incomplete(replies))

        return Job(partition, flush, done)

    def _check_fields(self, partition: int, lost: Array) -> None:
        """A hash that is not whole was expired, deleted or somebody else's: write it whole next time."""
        if len(lost):
            self.people.online.forget(lost)
            self.people.dirty[lost] = True
            self.counting.of(partition)

    # -- housekeeping

    def flush(self) -> None:
        """Write everything that was counted and wait for it."""
        self.writer.settle()
        while self.counting.progress:
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
        oldest = min((p.since for p in list(self.counting.progress.values())), default=None)
        return 0.0 if oldest is None else (time.monotonic() - oldest) * 1000

    def unflushed_ms(self) -> dict[int, float]:
        """How long the oldest change of each partition has waited to be written."""
        now, due = time.monotonic(), dict(self.counting.progress)
        return {p: (now - due[p].since) * 1000 if p in due else 0.0 for p in self.partitions}

    def _stage(self, name: str, partitions: Array) -> AbstractContextManager[None]:
        return self.people.meters.timed(f"stage_seconds_total:{name}", partitions)


def _worked(reads: list[Read]) -> Array:
    """Whose work these reads are: each partition once an entry and once an event of it."""
    return np.repeat([r.partition for r in reads], [1 + (len(r.entry) if r.entry else 0) for r in reads])
