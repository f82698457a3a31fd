"""The dataflow that learns: outcomes meet the scores that they are of, and the online learners learn each once.

Run by `python -m flows.learning`. What it learned lies in SQL, with the positions up to which it read, one transaction
a batch; so it may die at any moment. Every step is a method that knows nothing of Bytewax.
"""

from __future__ import annotations

import gc
import socket
import sys
import time
from collections.abc import Sequence
from functools import partial

import bytewax.operators as op
import msgspec
import redis
import sqlalchemy as sa
from bytewax.dataflow import Dataflow

from feature_repo import keys
from feature_repo import settings as settings_
from feature_repo import vocabulary as vocabulary_
from feature_repo.settings import Settings
from feature_repo.vocabulary import Vocabulary
from flows import learning_figures, log_time
from flows.alert_store import open_alerts
from flows.database import SQL_DOWN
from flows.lake_read import LakeReader
from flows.learned import Learned
from flows.learners.catalogue import KINDS
from flows.learners.example import Calibration, Kind, Place
from flows.learning_items import Source
from flows.learning_joins import First, Joining, Step
from flows.learning_known import Known
from flows.learning_lake import Samples, Sampling
from flows.learning_reader import Reader, Round
from flows.learning_sources import AlertOutcomes, Alerts, AlertSteps, OutcomeEvents, PredictionOutcomes
from flows.learning_store import Batch, Held, LearningStore, Snapshot, TakenOver
from flows.learning_versions import Versions
from flows.running import REDIS_DOWN, Sink, connected, patiently, pause, run, say, stopping
from flows.running import Source as Input
from flows.state import identified
from flows.store import StoreError, open_store
from onnx_models.library import Library
from onnx_models.registry import ModelError

IDLE_S = 0.1  # between two looks while nothing comes
ALIVE_S = 3.0  # between two signs of life while nothing comes
SAY_S = 5.0  # between two words to /metrics
SNAPSHOT_S = 5.0  # between two snapshots of the learners: the journal holds what came since
WHO = "learning"


class Work(msgspec.Struct):
    """A round, and what is to be done in it, in this order."""

    round: Round
    steps: list[Step]


class Done(msgspec.Struct):
    """A round that was learned, and what is to be written."""

    round: Round
    batch: Batch


class Learning:
    """Everything that one life of the process has; made anew from SQL when anything went wrong half-way."""

    def __init__(
        self,
        store: LearningStore,
        reader: Reader,
        joining: Joining,
        library: Library,
        kinds: Sequence[Kind],
        events: Sequence[OutcomeEvents] = (),
    ) -> None:
        """`events`: who is told what need not wait any more."""
        self.store, self.reader, self.library = store, reader, library
        self.learned = Learned(kinds)
        self._joining, self._events = joining, events
        self._told: dict[Place, Calibration | None] = {}
        self._under_way = False  # a round that is not committed yet
        self._alive, self._snapshot = time.monotonic(), float("-inf")
        self._said = float("-inf")

    def begin(self) -> None:
        """Takes over, and knows again what was learned. Raises Held."""
        self.reader.begin()
        self.learned.restore(self.store)
        self.publish()

    # -- steps

    def read(self) -> list[Round]:
        """What has come, once what came before is committed."""
        if self._under_way:
            return []
        found = self.reader.round()
        if found is None:
            self._idle()
            return []
        self._under_way = True
        return [found]

    def join(self, found: Round) -> Work:
        return Work(found, self._joining.steps(found.items, found.world, found.end))

    def learn(self, work: Work) -> Done:
        """Predicts and learns, in memory alone."""
        found, before = work.round, self.learned.seq
        lines = self.learned.take(work.steps)
        batch = Batch(
            found.positions,
            before,
            new=[step.row for step in work.steps if isinstance(step, First)],
            changed=[row for row in found.world.rows.values() if row.changed and not row.new],
            gone=found.world.gone,
            lines=lines,
            aside=found.world.aside,
            wait=found.wait,
            found=found.found,
            snapshots=self._snapshots(),
        )
        return Done(found, batch)

    def write(self, items: list[Done]) -> None:
        for item in items:
            self._write(item.round, item.batch)

    def _write(self, found: Round, batch: Batch) -> None:
        """All of it; then what follows from it. Half-way only when stopped, and what was not done is done again."""
        if not patiently(lambda: self.store.commit(batch), SQL_DOWN):
            return
        self.reader.committed(found)
        self._under_way, self._alive = False, time.monotonic()
        for events in self._events:
            if (position := batch.positions.get(events.name)) and position.place:
                events.learned(position.place)
        if batch.lines:
            self.publish()

    def _idle(self) -> None:
        if time.monotonic() - self._alive > ALIVE_S:
            self.keep()
        stopping.wait(IDLE_S)

    def end(self) -> None:
        """Leaves the learners as they are, so that the next life need not learn again what the journal holds."""
        if not self._under_way:
            self.keep()

    def keep(self) -> None:
        """The learners as they are, and a sign of life."""
        batch = Batch(self.reader.positions, self.learned.seq, snapshots=self.learned.snapshots())
        patiently(lambda: self.store.commit(batch), SQL_DOWN)
        self._alive = time.monotonic()

    def say(self, client: redis.Redis) -> None:
        """How it stands, for /metrics: from time to time."""
        if time.monotonic() - self._said < SAY_S:
            return
        self._said = time.monotonic()
        with self.store.engine.connect() as connection:
            told = learning_figures.totals(connection) | learning_figures.of_learners(self.learned.reports)
        with client.pipeline(transaction=True) as pipe:
            pipe.delete(keys.LEARNING)
            pipe.hset(keys.LEARNING, mapping=told)
            pipe.execute()

    def _snapshots(self) -> list[Snapshot]:
        if time.monotonic() - self._snapshot < SNAPSHOT_S:
            return []
        self._snapshot = time.monotonic()
        return self.learned.snapshots()

    def publish(self) -> None:
        """What holds now, into the registry, from where every process takes it up."""
        for place, new in self.learned.calibrations().items():
            if place in self._told and self._told[place] == new:
                continue
            try:
                numbers = (new.a, new.b) if new else None
                why = new.why if new else "the version's own is better"
                self.library.calibrate(place.model, place.version, place.organisation, numbers, WHO, why)
            except (ModelError, ValueError, OSError) as error:
                say(f"a calibration of {place.model} {place.version} is not in the registry: {error}")
            else:
                self._told[place] = new


def dataflow(learning: Learning, client: redis.Redis) -> Dataflow:
    flow = Dataflow("learning")
    rounds = op.input("sources", flow, Input(partial(_read, learning, client)))
    # Round: what has come, in the order, and the examples that it is about
    work = op.map("join", rounds, learning.join)
    # Work: what to predict and what to learn, in the order
    done = op.map("learn", work, learning.learn)
    # Done: what the learners made of it, to be written
    op.output("sql", done, Sink(learning.write, learning.end))
    return flow


def _read(learning: Learning, client: redis.Redis) -> list[Round]:
    learning.say(client)
    return learning.read()


def made(settings: Settings, vocabulary: Vocabulary, client: redis.Redis, kinds: Sequence[Kind] = KINDS) -> Learning:
    """One life of the process; it has not begun. Raises StoreError."""
    store, library = open_store(client), Library.of(settings)
    versions, engine = Versions(library, vocabulary), open_alerts(settings).engine
    owner = f"{socket.gethostname()}:{settings.home}"  # the same after a kill
    kept, lake = LearningStore(engine, versions, owner), LakeReader(settings.lake, vocabulary, store, client)
    sampling = Sampling(lake, vocabulary, versions, store.partitions)
    sources, events = _sources(engine, client, versions, store.partitions, sampling)
    known, now = Known(client, store.partitions), partial(log_time.now_ms, client, store)
    reader = Reader(sources, kept, lake, sampling, known, now, wall=store.clock == "wall")
    return Learning(
        kept, reader, Joining(labels(vocabulary), partial(identified, client, store)), library, kinds, events
    )


def _sources(
    engine: sa.Engine, client: redis.Redis, versions: Versions, partitions: int, sampling: Sampling
) -> tuple[list[Source], list[OutcomeEvents]]:
    """All of them, each at the place that is its rank; and those that hold what waits."""
    alerts, outcomes = Alerts(0, engine, versions), AlertOutcomes(2, engine)
    told: list[Source] = [alerts, PredictionOutcomes(1, engine), outcomes, AlertSteps(3, engine)]
    people = [Samples(len(told) + p, p, sampling) for p in range(partitions)]
    events = [OutcomeEvents(len(told) + partitions + p, client, p) for p in range(partitions)]
    return [*told, *people, *events], events


def labels(vocabulary: Vocabulary) -> dict[str, tuple[str, ...]]:
    """Outcome event -> the models of which it is the label."""
    found: dict[str, tuple[str, ...]] = {}
    for service in vocabulary.services:
        if service.outcome:
            found[service.outcome] = (*found.get(service.outcome, ()), service.name)
    return found


def live(settings: Settings, vocabulary: Vocabulary) -> None:
    """From what is committed until stopped. Raises what is down, Held, TakenOver."""
    client = connected(settings)
    learning = made(settings, vocabulary, client)
    try:
        learning.begin()
        gc.collect()
        gc.freeze()
        run(dataflow(learning, client))
    finally:
        gc.unfreeze()
        learning.store.engine.dispose()
        client.close()


def main() -> int:
    """Runs until SIGTERM; begins again from SQL whatever went wrong half-way."""
    gc.set_threshold(50_000, 20, 20)  # learners make many small objects, none in a circle: 6 % less time
    settings = settings_.load()
    vocabulary = vocabulary_.load(settings.feature_repo)
    while not stopping.is_set():
        try:
            live(settings, vocabulary)
        except (StoreError, Held, TakenOver, *REDIS_DOWN, sa.exc.SQLAlchemyError) as error:
            pause(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
