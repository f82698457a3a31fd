"""Bytewax's own windows: 24 h every hour and 1 h, joined by person and hour, scored as they close.

`python -m tests.bench.contenders.bytewax_windows LINES MODEL`
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import bytewax.operators as op
import bytewax.operators.windowing as win
import numpy as np
from bytewax.dataflow import Dataflow
from bytewax.operators.windowing import EventClock, SlidingWindower, TumblingWindower
from bytewax.testing import TestingSink, TestingSource, run_main

from tests.bench.contenders.lines import START, TYPES
from tests.bench.contenders.model import Scorer, tell

Event = tuple[datetime, int]
HOUR = timedelta(hours=1)
CODES = {name: i for i, name in enumerate(TYPES)}


def events(lines: Path) -> Iterator[tuple[str, Event]]:
    with lines.open() as file:
        for line in file:
            event = json.loads(line)
            yield event["user"], (datetime.fromtimestamp(event["ts"] / 1000, UTC), CODES[event["event"]])


def count(counts: list[int], event: Event) -> list[int]:
    counts[event[1]] += 1
    return counts


def merge(a: list[int], b: list[int]) -> list[int]:
    return [x + y for x, y in zip(a, b, strict=True)]


def flow(lines: Path, scorer: Scorer) -> Dataflow:
    flow = Dataflow("peer")
    people = op.input("lines", flow, TestingSource(events(lines), batch_size=1000))
    clock: EventClock[Event] = EventClock(lambda event: event[0], wait_for_system_duration=6 * HOUR)
    start = datetime.fromtimestamp(START / 1000, UTC)
    sliding = SlidingWindower(length=24 * HOUR, offset=HOUR, align_to=start)
    tumbling = TumblingWindower(length=HOUR, align_to=start)
    of_day = win.fold_window("day", people, clock, sliding, lambda: [0] * 12, count, merge, ordered=False)
    of_hour = win.fold_window("hour", people, clock, tumbling, lambda: [0] * 12, count, merge, ordered=False)
    hours: dict[tuple[str, int], list[int]] = {}

    def keep(item: tuple[str, tuple[int, list[int]]]) -> None:
        user, (window, counts) = item
        hours[user, window] = counts

    def scored(items: list[tuple[str, tuple[int, list[int]]]]) -> list[float]:
        rows = [[*hours.pop((user, window + 23), [0] * 12), *counts] for user, (window, counts) in items]
        return list(scorer.scores(np.array(rows, np.float32).reshape(-1, 24)).tolist())

    op.inspect("keep", of_hour.down, lambda _, item: keep(item))
    scores = op.flat_map_batch("score", of_day.down, scored)
    out: list[float] = []
    op.output("null", op.filter("none", scores, lambda _: False), TestingSink(out))
    return flow


def main(lines: Path, model: Path) -> None:
    scorer = Scorer(model)
    with lines.open() as file:
        n = sum(1 for _ in file)
    began = time.perf_counter()
    run_main(flow(lines, scorer))  # type: ignore[no-untyped-call]
    tell(n, time.perf_counter() - began, scorer)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
