"""A day of a million people's traffic at full speed: 10 M events, Zipf 1.05, from six in the morning to six.

All 24 hours have their share of it, few at night and many in the evening, and midnight is crossed. The engine reads it
from a filled log; features, state, alerts and the log's ticks are written as always. `events_per_s`: by quarters of it;
`times_real_time`: how much faster than the day itself. `replay_...`: a part of such a day, as JSON lines through the
public door by `telltale replay`, until the engine has written it: API, engine and store share the machine's cores.
"""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np

from feature_repo import keys
from feature_repo.vocabulary import load
from tests.bench.engine import MIDNIGHT, USERS, people, running, store_for_bench, wait_for
from tests.bench.filled import Filler, zipf
from tests.bench.options import Options
from tests.bench.result import ROOT, Result, figure
from tests.live import environment, live

EVENTS, REPLAYED = 10_000_000, 600_000
AIM = 100_000  # events a second, so that a run can be made shorter
HOUR = 3_600_000
MORNING = MIDNIGHT - 18 * HOUR
OF_DAY = (2, 1, 1, 1, 1, 2, 3, 4, 6, 6, 5, 5, 6, 5, 5, 5, 5, 6, 7, 8, 8, 7, 5, 3)  # by the hour, from midnight on
WHOLE = 24 * 3600.0
PARTS, TICK = 4, 0.05  # of the events, of which each is timed; seconds between two looks


class Day(msgspec.Struct):
    """What was done of it, and in how many seconds, part by part."""

    events: int
    spent: list[float]
    alerts: float
    people: float = 0.0

    @property
    def seconds(self) -> float:
        return sum(self.spent)


def run(options: Options) -> Result:
    """`options.seconds` above 0: as many events as the engine shall do in that time."""
    events = int(options.seconds * AIM) or EVENTS
    read, posted = _read(events), _posted(min(events, REPLAYED))
    return Result(
        {
            "events": figure([read.events], ""),
            "seconds": figure([read.seconds], "s"),
            "events_per_s": figure([read.events / PARTS / max(spent, TICK) for spent in read.spent], "1/s"),
            "mean_events_per_s": figure([read.events / read.seconds], "1/s"),
            "times_real_time": figure([WHOLE / read.seconds], "x"),
            "people": figure([read.people], ""),
            "alerts": figure([read.alerts], ""),
            "replay_events": figure([posted.events], ""),
            "replay_events_per_s": figure([posted.events / posted.seconds], "1/s"),
            "replay_alerts": figure([posted.alerts], ""),
        }
    )


def hours(events: int) -> list[tuple[int, int]]:
    """(when it begins, how many events) of each hour, from the morning on."""
    shares = np.roll(np.array(OF_DAY), -6) / sum(OF_DAY)
    ends = np.round(np.cumsum(shares) * events).astype(int)
    return [(MORNING + i * HOUR, int(n)) for i, n in enumerate(np.diff(ends, prepend=0))]


def _read(events: int) -> Day:
    with store_for_bench() as (settings, _, client, store):
        filler = Filler(client, store, load(), USERS)
        client.config_set("appendfsync", "no")
        for start, n in hours(events):
            filler.fill(zipf(USERS, 1.05, n, filler.rng), start, start + HOUR - 1)
        client.config_set("appendfsync", "always")
        with running(settings, client):
            ends = [time.perf_counter()]
            for n in parts(events):
                wait_for(client, store, n)
                ends.append(time.perf_counter())
        return Day(events, np.diff(ends).tolist(), float(client.xlen(keys.ALERTS)), people(client))


def parts(events: int) -> list[int]:
    """How many are done at the end of each part of it."""
    return [events * i // PARTS for i in range(1, PARTS + 1)]


def _posted(events: int) -> Day:
    with store_for_bench() as (settings, _, client, store), live(settings) as api, running(settings, client):
        file = settings.home / "day.jsonl"
        _write(file, events)
        command = [sys.executable, "-m", "serving.command", "replay", str(file)]
        began = time.perf_counter()
        done = subprocess.run(command, cwd=ROOT, env=environment(api.settings), capture_output=True, check=False)
        if done.returncode:
            raise RuntimeError(f"expected a replay, got {done.stderr.decode()[-500:]}")
        wait_for(client, store, events)
        return Day(events, [time.perf_counter() - began], float(client.xlen(keys.ALERTS)))


def _write(file: Path, events: int) -> None:
    """As a server library of Segment sends them, in time order."""
    rng, names = np.random.default_rng(1), [e.segment[0] for e in load().events if e.role == "behaviour" and e.segment]
    with file.open("w") as out:
        for start, n in hours(events):
            at = np.linspace(start, start + HOUR - 1, n).astype(np.int64)
            out.writelines(map(_line, zipf(USERS, 1.05, n, rng), at, rng.choice(names, n)))


def _line(user: int, at: int, name: str) -> str:
    stamp = datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds")
    return (
        f'{{"type": "track", "userId": "user-{user:07d}", "event": "{name}", "timestamp": "{stamp}", '
        '"properties": {"document": "doc-00017", "title": "Statement", "pages": 12}, '
        '"context": {"library": {"name": "analytics-python", "version": "2.3.3"}}}\n'
    )
