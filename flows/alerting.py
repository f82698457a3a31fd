"""The dataflow that notices: log -> windows -> features -> scores -> alerts -> store.

Run by `python -m flows.alerting`. Every step is a method that knows nothing of Bytewax.
"""

from __future__ import annotations

import gc
import logging
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial

import bytewax.operators as op
import redis
from bytewax.dataflow import Dataflow

from feature_repo import settings as settings_
from feature_repo import vocabulary as vocabulary_
from feature_repo.settings import Settings
from feature_repo.vocabulary import Vocabulary
from flows import heap, running
from flows.engine import Engine
from flows.housekeeping import Housekeeping
from flows.losses import WentBack, opened
from flows.members import Member
from flows.names import named
from flows.partition import LogBehind
from flows.plan import Plan
from flows.poison import Caution
from flows.resp import StoreError
from flows.scoring import Evaluated
from flows.served import feature_set
from flows.state import StateError
from flows.store import connect, dial
from flows.streams import Read
from flows.windows import Full
from onnx_models.library import Library
from onnx_models.watch import Watch

KNOWN = (LogBehind, WentBack, StateError, Full)  # they say what is wrong, and no entry is to blame
_log = logging.getLogger(__name__)


def dataflow(engine: Engine, watch: Watch, read: Callable[[], Iterable[list[Read]]]) -> Dataflow:
    """The whole way of an event, top to bottom."""
    flow = Dataflow("alerting")
    entries = op.input("log", flow, running.Source(read))
    # list[Read]: what has come, of all partitions
    counted = op.map("windows", entries, engine.count)
    # list[Read]: the same, now in the table
    due = op.flat_map("conflate", counted, engine.conflate)
    # list[Progress]: partitions to write, once the write before is through
    evaluated = op.map("features", due, engine.evaluate)
    # Evaluated: who changed, and their features
    scored = op.map("scores", evaluated, partial(_score, engine, watch))
    # Evaluated: with each model's scores, by the version that is deployed now
    decided = op.map("episodes", scored, engine.decide)
    # Evaluated: with the alerts that opened
    op.output("store", decided, running.Sink(partial(_write, engine)))
    return flow


def _read(caution: Caution, keeping: Housekeeping, member: Member) -> list[list[Read]]:
    """One micro-batch, which spans all partitions of ours; one entry where one is sought that ends engines.

    Ends when our share is another. Raises what ended the threads beside.
    """
    if error := member.failed or keeping.failed:
        raise error
    if member.moved:
        raise StopIteration
    return [caution.read()]


def _score(engine: Engine, watch: Watch, evaluated: Evaluated) -> Evaluated:
    engine.models = watch.models
    return engine.score(evaluated)


def _write(engine: Engine, items: list[Evaluated]) -> None:
    for item in items:
        engine.write(item)


def watched(vocabulary: Vocabulary, settings: Settings) -> Watch:
    """The verified models of the services that may alert; one that is missing is named and left out."""
    alerting = [service for service in vocabulary.services if service.alert]
    watch = Watch(Library.of(settings), alerting)
    for service in alerting:
        if service.name not in watch.models:
            _log.warning("no alerts of type %s: %s", service.alert, watch.refused[service.name])
    return watch


def run(settings: Settings, vocabulary: Vocabulary, caution: Caution, name: str) -> None:
    """One life of the engine: with one share of the partitions, until it is another, or stopped. Raises StoreError."""
    client = connect(settings)
    store = opened(client, settings)
    watch = watched(vocabulary, settings)
    gc.collect()  # an earlier life's table goes before there is another
    member = Member(connect(settings), name, feature_set(Plan(vocabulary)), store.partitions)
    try:
        if mine := member.join(running.stopping):
            _log.info("%s works partitions %s of %d", name, ", ".join(map(str, mine)), store.partitions)
            models, dialled = watch.models, partial(dial, settings)
            engine = Engine(vocabulary, settings, store, client, dialled, models, partitions=mine, owner=name)
            _work(engine, watch, caution, member)
        if running.stopping.is_set():
            member.leave()
    finally:
        member.stop()


def _work(engine: Engine, watch: Watch, caution: Caution, member: Member) -> None:
    caution.begin(engine, engine.client)
    keeping = Housekeeping(engine, connect(engine.settings), dial(engine.settings))
    gc.collect()
    gc.freeze()
    watch.start()
    try:
        running.run(dataflow(engine, watch, partial(_read, caution, keeping, member)))
        engine.close()
        caution.ended()
    except KNOWN:
        with suppress(redis.RedisError):
            caution.survived()
        raise
    finally:
        watch.stop()
        keeping.stop()
        engine.abandon()
        gc.unfreeze()  # or this life's table would stay when the next one begins


def main() -> int:
    """Runs until SIGTERM; goes on when the store is back after it was gone, and when others took its partitions."""
    heap.own_large_blocks()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    running.end_on_signals()
    settings = settings_.load()
    vocabulary = vocabulary_.load(settings.feature_repo)
    caution = Caution()
    with named(settings.home) as name:
        while not running.stopping.is_set():
            try:
                run(settings, vocabulary, caution, name)
            except KNOWN as error:
                _log.error("%s", error)
                return 1
            except (StoreError, redis.RedisError) as error:
                _log.warning("%s; trying again", error)
                time.sleep(0.3)
    return 0


if __name__ == "__main__":
    sys.exit(main())
