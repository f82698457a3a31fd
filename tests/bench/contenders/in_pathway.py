"""Pathway: sliding windows of 24 h every hour and tumbling ones of 1 h, joined by person and end, scored, thrown away.

`python in_pathway.py LINES MODEL`, in an environment that has pathway.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pathway as pw
from model import Scorer, tell

HOUR = 3_600_000
TYPES = [f"event_{i:02d}" for i in range(12)]


class Line(pw.Schema):
    user: str
    event: str
    ts: int


def counts(events: pw.Table, window: pw.temporal.Window, span: str) -> pw.Table:
    """Each person's count of each type in each window."""
    parts = {f"{name}_{span}": pw.reducers.sum(getattr(pw.this, name)) for name in TYPES}
    windows = events.windowby(pw.this.ts, window=window, instance=pw.this.user)
    return windows.reduce(user=pw.this._pw_instance, end=pw.this._pw_window_end, **parts)


def main(lines: Path, model: Path) -> None:
    scorer = Scorer(model)
    with lines.open() as file:
        n = sum(1 for _ in file)
    began = time.perf_counter()
    events = pw.io.jsonlines.read(str(lines), schema=Line, mode="static")
    ones = {name: pw.cast(int, pw.this.event == name) for name in TYPES}
    events = events.select(pw.this.user, pw.this.ts, **ones)
    day = counts(events, pw.temporal.sliding(hop=HOUR, duration=24 * HOUR), "24h")
    hour = counts(events, pw.temporal.tumbling(duration=HOUR), "1h")
    joined = day.join_left(hour, day.user == hour.user, day.end == hour.end)
    columns = [*(pw.coalesce(getattr(hour, f"{t}_1h"), 0) for t in TYPES), *(getattr(day, f"{t}_24h") for t in TYPES)]

    @pw.udf(max_batch_size=512)
    def score(*counts: list[int]) -> list[float]:
        return [float(x) for x in scorer.scores(np.array(counts, np.float32).T)]

    pw.io.null.write(joined.select(score=score(*columns)))
    pw.run(monitoring_level=pw.MonitoringLevel.NONE)
    tell(n, time.perf_counter() - began, scorer)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
