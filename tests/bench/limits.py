"""The physical limits beside what we reach: the store fed bytes that were made before, bare ONNX Runtime, memory.

`store_writes_per_s`: transactions of 256 people, an HSET of each one's changed features and all their states in one
MSET, built beforehand and sent by one pipelined connection under `appendfsync always`: what no engine can exceed.
`onnx_us_per_row`: each alert model over slices of 512 rows and nothing else. `memory_gb_per_s`: one thread copying an
array much larger than the caches, read and write counted. `telltale bench engine` and `stream-score` say what is
reached; the ratios here are of the same run.
"""

from __future__ import annotations

import time
from functools import partial

import numpy as np
import onnxruntime

from feature_repo.vocabulary import load
from flows.engine import Engine
from flows.resp import Connection
from flows.store import dial
from flows.writer import FeatureBytes, hot_states, mset
from onnx_models.card import ONNX
from onnx_models.library import Library
from onnx_models.session import Model
from onnx_models.watch import Watch
from tests.bench.engine import MIDNIGHT, accounted, store_for_bench
from tests.bench.filled import Filler
from tests.bench.options import Options
from tests.bench.result import Result, figure

USERS = 50_000
TOGETHER = 256
ROUNDS = 6
CHANGED = 12  # features that an event of somebody known changes
SLICE = 512
SECONDS = 5.0


def run(options: Options) -> Result:
    seconds = options.seconds or SECONDS
    bare, ours, onnx, scoring, memory = (list[float]() for _ in range(5))
    for _ in range(options.runs):
        bare.append(_bare(seconds))
        with store_for_bench() as (settings, _, client, store):
            watch = Watch(Library.of(settings), [s for s in load().services if s.alert])
            engine = Engine(load(), settings, store, client, partial(dial, settings), watch.models)
            try:
                written, us = _engine(engine, Filler(client, store, load(), USERS))
            finally:
                engine.abandon()
        ours.append(written)
        scoring.append(us)
        onnx.append(_onnx(list(watch.models.values())))
        memory.append(_memory())
    return Result(
        {
            "store_writes_per_s": figure(bare, "1/s"),
            "engine_writes_per_s": figure(ours, "1/s"),
            "share_of_store": figure([a / b for a, b in zip(ours, bare, strict=True)], "", "higher"),
            "onnx_us_per_row": figure(onnx, "us"),
            "engine_score_us_per_row": figure(scoring, "us"),
            "ratio_to_onnx": figure([a / b for a, b in zip(scoring, onnx, strict=True)], "x", "lower"),
            "memory_gb_per_s": figure(memory, "GB/s"),
        }
    )


def _bare(seconds: float) -> float:
    """People a second, of bytes that were there before."""
    vocabulary, rng = load(), np.random.default_rng(1)
    with store_for_bench() as (settings, _, _, _):
        build, count = FeatureBytes(vocabulary), len(vocabulary.features)
        groups = []
        for low in range(0, USERS, TOGETHER):
            n = min(TOGETHER, USERS - low)
            names, uids = (
                [b"bench/user-%07d" % (low + i) for i in range(n)],
                rng.integers(1, 2**63, n).astype(np.uint64),
            )
            changed = rng.random((n, count)).argsort(axis=1) < CHANGED
            features = build.commands(names, np.full(n, MIDNIGHT), rng.random((n, count)), changed, [b""] * n)
            state = mset(hot_states(bytes(8), uids, rng.integers(0, 1 << 40, (n, 55))))
            groups.append((b"".join((b"*1\r\n$5\r\nMULTI\r\n", state, *features, b"*1\r\n$4\r\nEXEC\r\n")), n))
        connection, done, until = dial(settings), 0, time.perf_counter() + seconds
        began, waiting = time.perf_counter(), list[int]()
        while time.perf_counter() < until:
            for data, n in groups:  # one is worked while the next is sent
                connection.send(data)
                waiting.append(n)
                if len(waiting) > 1:
                    done += _answered(connection, waiting.pop(0))
        done += sum(_answered(connection, n) for n in waiting)
        return done / (time.perf_counter() - began)


def _answered(connection: Connection, n: int) -> int:
    """Takes the replies to one transaction: MULTI, one a command queued, EXEC."""
    for _ in range(n + 3):
        connection.read()
    return n


def _engine(engine: Engine, filler: Filler) -> tuple[float, float]:
    """(people written a second, us a row and model in scoring) of an engine handed rounds of known people's events."""
    took = scoring = 0.0
    for turn in range(ROUNDS + 1):  # in the first they become known
        start = MIDNIGHT + turn * 60_000
        filler.fill(filler.rng.permutation(USERS), start, start + 50_000)
        began = time.perf_counter()
        spent = _drain(engine, filler, (turn + 1) * USERS)
        if turn:
            took, scoring = took + time.perf_counter() - began, scoring + spent
    rows = ROUNDS * USERS
    return rows / took, scoring / rows / len(engine.models) * 1e6


def _drain(engine: Engine, filler: Filler, total: int) -> float:
    """Until so many events are written; CPU seconds of scoring."""
    spent = 0.0
    while accounted(filler.client, filler.store) < total:
        engine.count(engine.read())
        for due in engine.conflate([]):
            evaluated = engine.evaluate(due)
            began = time.thread_time()
            engine.score(evaluated)
            spent += time.thread_time() - began
            engine.write(engine.decide(evaluated))
        engine.writer.settle()
    return spent


def _onnx(models: list[Model]) -> float:
    rng, spent, rows = np.random.default_rng(1), 0.0, 0
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    for model in models:
        session = onnxruntime.InferenceSession(str(model.directory / ONNX), options)
        name = session.get_inputs()[0].name
        slices = rng.random((40, SLICE, len(model.inputs))).astype(np.float32)
        session.run(None, {name: slices[0]})
        start = time.thread_time()
        for each in slices:
            session.run(None, {name: each})
        spent, rows = spent + time.thread_time() - start, rows + slices.shape[0] * SLICE
    return spent / rows * 1e6


def _memory() -> float:
    source, target = np.ones(1 << 25), np.empty(1 << 25)  # 256 MB each
    np.copyto(target, source)
    times = list[float]()
    for _ in range(5):
        start = time.perf_counter()
        np.copyto(target, source)
        times.append(time.perf_counter() - start)
    return 2 * source.nbytes / min(times) / 1e9
