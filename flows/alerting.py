"""The dataflow that notices: log -> windows -> features -> scores -> alerts -> store.

Run by `python -m flows.alerting`. Every step is a method that knows nothing of Bytewax.
"""

from __future__ import annotations

import gc
import logging
import socket
import sys
import time
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
from flows.partition import Fenced, LogBehind
from flows.poison import Caution
from flows.resp import StoreError
from flows.scoring import Evaluated
from flows.state import StateError
from flows.store import connect, dial
from flows.streams import Read
from flows.windows import Full
from onnx_models.library import Library
from onnx_models.watch import Watch

KNOWN = (Fenced, LogBehind, WentBack, StateError, Full)  # they say what is wrong, and no entry is to blame
_log = logging.getLogger(__name__)


def dataflow(engine: Engine, keeping: Housekeeping, watch: Watch, caution: Caution) -> Dataflow:
    """The whole way of an event, top to bottom."""
    flow = Dataflow("alerting")
    entries = op.input("log", flow, running.Source(partial(_read, caution, keeping)))
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


def _read(caution: Caution, keeping: Housekeeping) -> list[list[Read]]:
    """One micro-batch, which spans all partitions; one entry where one is sought that ends engines.

    Raises what ended the housekeeping.
    """
    if keeping.failed:
        raise keeping.failed
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


def run(settings: Settings, vocabulary: Vocabulary, caution: Caution) -> None:
    """One life of the engine: from the committed positions until stopped. Raises StoreError."""
    client = connect(settings)
    watch = watched(vocabulary, settings)
    gc.collect()  # an earlier life's table goes before there is another
    engine = Engine(
        vocabulary,
        settings,
        opened(client, settings),
        client,
        lambda: dial(settings),
        watch.models,
        owner=f"{socket.gethostname()}:{settings.home}",  # the same after a kill, so that it need not wait for itself
    )
    caution.begin(engine, client)
    keeping = Housekeeping(engine, connect(settings), dial(settings))
    gc.collect()
    gc.freeze()
    watch.start()
    try:
        running.run(dataflow(engine, keeping, watch, caution))
        engine.close()
        caution.survived()
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
    """Runs until SIGTERM; goes on when the store is back after it was gone."""
    heap.own_large_blocks()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    settings = settings_.load()
    vocabulary = vocabulary_.load(settings.feature_repo)
    caution = Caution()
    while not running.stopping.is_set():
        try:
            run(settings, vocabulary, caution)
        except KNOWN as error:
            _log.error("%s", error)
            return 1
        except (StoreError, redis.RedisError) as error:
            _log.warning("%s; trying again", error)
            time.sleep(0.3)
    return 0


if __name__ == "__main__":
    sys.exit(main())
