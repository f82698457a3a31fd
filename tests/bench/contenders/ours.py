"""Ours: lines decoded by one process, as the API does it; counted, evaluated and scored by another, as the engine does.

`python -m tests.bench.contenders.ours LINES MODEL`. Window code, plan and evaluation are the engine's own over a
vocabulary of 12 event types; what is between (log, store, state, features, alerts) is left out, as its peers have none.
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

from feature_repo.declare import Count, EventType, Feature
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


def main(lines: Path, model: Path) -> None:
    scorer, table, n = Scorer(model), Table(Plan(vocabulary()), 2 * PEOPLE), 0
    began = time.perf_counter()
    columns, to = multiprocessing.Pipe(duplex=False)
    reader = multiprocessing.Process(target=read, args=(lines, to), daemon=True)
    reader.start()
    to.close()  # so that a reader that dies is noticed
    now = 0
    while data := columns.recv_bytes():
        ids, code, ts = np.frombuffer(data, np.int64).reshape(3, -1)
        log = np.maximum.accumulate(np.maximum(ts, now))  # the log's time never goes back
        now = int(log[-1])
        rows = table.rows(ids.view(np.uint64))
        table.apply(rows, code, np.zeros(len(ts), np.int64), ts, log)
        scorer.scores(table.evaluate(np.unique(rows)).astype(np.float32))
        n += len(ts)
    tell(n, time.perf_counter() - began, scorer)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
