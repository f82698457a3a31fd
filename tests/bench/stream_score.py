"""What a score costs in the stream: the engine's own step over the people whom a filled log changed, in slices.

Each alert model scores every row, from the features as evaluated to its raw and calibrated score. `us_per_row`: of one
row and one model, over all of them.
"""

from __future__ import annotations

import time

import numpy as np

from feature_repo.vocabulary import load
from flows.engine import Engine
from flows.scoring import Evaluated
from flows.store import dial
from onnx_models.library import Library
from onnx_models.watch import Watch
from tests.bench.engine import MIDNIGHT, store_for_bench
from tests.bench.filled import Filler
from tests.bench.options import Options
from tests.bench.result import Result, figure

USERS = 20_000
SECONDS = 3.0


def run(options: Options) -> Result:
    with store_for_bench() as (settings, _, client, store):
        vocabulary = load()
        filler = Filler(client, store, vocabulary, USERS)
        filler.fill(np.arange(USERS), MIDNIGHT, MIDNIGHT + 60_000)
        found = Watch(Library.of(settings), [s for s in vocabulary.services if s.alert]).models
        engine = Engine(vocabulary, settings, store, client, lambda: dial(settings), found)
        try:
            evaluated = _evaluated(engine)
            rounds = [_timed(engine, evaluated, options.seconds or SECONDS) for _ in range(options.runs)]
        finally:
            engine.abandon()
    rows = [len(e.rows) for e in evaluated]
    return Result(
        {
            "us_per_row": figure([us / len(found) for us in rounds], "us"),
            "us_per_row_all_models": figure(rounds, "us"),
            "models": figure([len(found)], ""),
            "rows_at_once": figure(rows, ""),
        }
    )


def _evaluated(engine: Engine) -> list[Evaluated]:
    """All that the log changes, evaluated batch by batch as the engine does it, and written."""
    found: list[Evaluated] = []
    while sum(len(e.rows) for e in found) < USERS:
        engine.count(engine.read())
        for due in engine.conflate([]):
            found.append(engine.evaluate(due))
            engine.write(engine.decide(engine.score(found[-1])))
    engine.writer.settle()
    return found


def _timed(engine: Engine, evaluated: list[Evaluated], seconds: float) -> float:
    """Microseconds a row, all models together."""
    rows, began = 0, time.perf_counter()
    while (took := time.perf_counter() - began) < seconds:
        for each in evaluated:
            engine.score(each)
            rows += len(each.rows)
    return took / rows * 1e6
