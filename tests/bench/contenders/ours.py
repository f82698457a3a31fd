"""Ours: lines decoded by one process, as the API does it; counted, evaluated and scored by another, as the engine does.

`python -m tests.bench.contenders.ours LINES MODEL [EVERY]`. Window code, plan and evaluation are the engine's own over
a vocabulary of 12 event types; what is between (log, store, state, features, alerts) is left out, as peers have none.
Who was touched is scored once every `EVERY` lines, or once a chunk of some 60,000: these pass in a tenth of a second,
while the engine scores people together for up to 0.9 s where the log runs ahead (`CONFLATE_MS` in flows/engine.py).
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import cast

import msgspec
import numpy as np
import xxhash

from feature_repo.declare import Array, Count, EventType, Feature
from feature_repo.vocabulary import Vocabulary
from flows.plan import Plan
from flows.windows import Table
from tests.bench.contenders.lines import PEOPLE, TYPES
from tests.bench.contenders.model import Scorer, tell

CHUNK = 4 * 1024 * 1024  # bytes of lines decoded at once


class Call(msgspec.Struct):
    user: str
    event: str
    ts: int


def vocabulary() -> Vocabulary:
    spans = [(name, hours) for hours in (1, 24) for name in TYPES]
    features = tuple(
        Feature(name=f"{n}_{h}h", unit="events", window=f"{h} h", default=0.0, description=n, of=Count(n, hours=h))
        for n, h in spans
    )
    events = tuple(EventType(name=name, description=name) for name in TYPES)
    return Vocabulary(cast(ModuleType, SimpleNamespace(EVENTS=events, FEATURES=features)))


def read(lines: Path, to: Connection) -> None:
    """Decodes the file into columns: identity, event code, moment."""
    decoder, codes = msgspec.json.Decoder(Call), {name: i for i, name in enumerate(TYPES)}
    with lines.open("rb") as file:
        while chunk := file.readlines(CHUNK):
            calls = decoder.decode_lines(b"".join(chunk))
            ids = np.array([xxhash.xxh3_64_intdigest(call.user.encode()) for call in calls], np.uint64)
            ts = np.array([call.ts for call in calls], np.int64)
            code = np.array([codes[call.event] for call in calls], np.int64)
            to.send_bytes(np.stack((ids.view(np.int64), code, ts)).tobytes())
    to.send_bytes(b"")


class Counter:
    """The engine's table; who was touched since they were scored last is marked, as the engine does."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer, self._table = scorer, Table(Plan(vocabulary()), 2 * PEOPLE)
        self._dirty = np.zeros(2 * PEOPLE, bool)
        self._now = 0

    def count(self, ids: Array, code: Array, ts: Array) -> None:
        log = np.maximum.accumulate(np.maximum(ts, self._now))  # the log's time never goes back
        self._now = int(log[-1])
        rows = self._table.rows(ids.view(np.uint64))
        self._table.apply(rows, code, np.zeros(len(ts), np.int64), ts, log)
        self._dirty[rows] = True

    def score(self) -> None:
        rows = np.flatnonzero(self._dirty)
        self._dirty[rows] = False
        self._scorer.scores(self._table.evaluate(rows).astype(np.float32))


def main(lines: Path, model: Path, every: int = 0) -> None:
    scorer, n = Scorer(model), 0
    counter = Counter(scorer)
    began = time.perf_counter()
    columns, to = multiprocessing.Pipe(duplex=False)
    reader = multiprocessing.Process(target=read, args=(lines, to), daemon=True)
    reader.start()
    to.close()  # so that a reader that dies is noticed
    while data := columns.recv_bytes():
        chunk = np.frombuffer(data, np.int64).reshape(3, -1)
        size = chunk.shape[1]
        for low in range(0, size, every or size):
            counter.count(*chunk[:, low : low + (every or size)])
            counter.score()
        n += size
    tell(n, time.perf_counter() - began, scorer)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:]))
