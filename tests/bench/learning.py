"""How fast outcomes are learned, and what the stream pays for what they taught.

`outcomes_per_s`: recorded outcomes of alerts in SQL, until all online learners that ship have learned them and the
journal is committed, by the learner's own process; `scores_per_s`: alerts in SQL until each is an open example of which
every learner said what it makes of it. `engine_cost_ratio`: events a second that the engine drains from a filled log
with an online calibration of each alert model, over those without, in pairs; `engine_cpu_ratio`: the same by the
engine's CPU seconds, which others on the machine disturb less.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import msgspec
import numpy as np
import redis
import sqlalchemy as sa

from feature_repo.settings import Settings
from feature_repo.vocabulary import load
from flows import alert_outcomes
from flows.alert import Alert
from flows.alert_store import AlertStore, open_alerts
from flows.learning_tables import examples, journal
from flows.store import Store
from onnx_models.library import Library
from tests.bench.engine import MIDNIGHT, accounted, cpu_seconds, running, store_for_bench
from tests.bench.filled import Filler, zipf
from tests.bench.options import Options
from tests.bench.result import ROOT, Result, figure
from tests.flows.made_outcomes import SELL, alert
from tests.live import environment

OUTCOMES = 20_000
USERS, EVENTS = 100_000, 800_000  # of a drain
DAY = 86_400_000


def run(options: Options) -> Result:
    learned = [outcomes() for _ in range(options.runs)]
    throughput, cpu = zip(*pairs(options.runs + 2), strict=True)
    return Result(
        {
            "outcomes_per_s": figure([rate for rate, _ in learned], "1/s"),
            "scores_per_s": figure([rate for _, rate in learned], "1/s"),
            "engine_cost_ratio": figure(throughput, "x"),
            "engine_cpu_ratio": figure(cpu, "x"),
        }
    )


# -- outcomes


def outcomes() -> tuple[float, float]:
    """(outcomes, scores) a second."""
    with store_for_bench() as (settings, *_):
        store, made = open_alerts(settings), scored(Library.of(settings).current(SELL.name) or "")
        store.insert(made[:1])
        process = subprocess.Popen([sys.executable, "-m", "flows.learning"], cwd=ROOT, env=environment(settings))
        try:
            timed(store, examples, 1)  # it is up
            store.insert(made[1:])
            seen = timed(store, examples, OUTCOMES)
            told(store, made)
            return timed(store, journal, OUTCOMES), seen
        finally:
            process.terminate()
            process.wait(30)
            store.close()


def scored(version: str) -> list[Alert]:
    """With scores as alerts have them, and features of all sorts."""
    rng = np.random.default_rng(1)
    scores, features = rng.beta(2, 5, OUTCOMES), rng.gamma(1.0, 3.0, (OUTCOMES, len(SELL.features))).round(2)
    return [
        msgspec.structs.replace(
            alert(n, MIDNIGHT - 9 * DAY + n, float(scores[n])), model_version=version, features=features[n].tolist()
        )
        for n in range(OUTCOMES)
    ]


def told(store: AlertStore, made: list[Alert]) -> None:
    """Of each alert, half as often as the scores say."""
    came = np.random.default_rng(2).random(len(made)) < np.array([one.score for one in made]) / 2
    rows = [
        {
            "alert_id": one.id,
            "organisation": one.organisation,
            "outcome": "TRUE_POSITIVE" if came[n] else "FALSE_POSITIVE",
            "converted": False,
            "who": "bench",
            "recorded_at": MIDNIGHT + n,
        }
        for n, one in enumerate(made)
    ]
    with store.engine.begin() as connection:
        connection.execute(alert_outcomes.outcomes.insert(), rows)


def timed(store: AlertStore, table: sa.Table, total: int) -> float:
    """Rows a second until the table has so many."""
    began, first = time.perf_counter(), rows_of(store, table)
    while rows_of(store, table) < total:
        time.sleep(0.01)
    return (total - first) / (time.perf_counter() - began)


def rows_of(store: AlertStore, table: sa.Table) -> int:
    with store.engine.connect() as connection:
        number = next(iter(table.primary_key.columns))
        return connection.execute(sa.select(sa.func.max(number))).scalar() or 0


# -- the stream


def pairs(count: int) -> list[tuple[float, float]]:
    """(throughput, 1 / CPU) with calibrations over without, in turns, of which either comes first as often."""
    with store_for_bench() as (settings, _, client, store):
        filler, library = Filler(client, store, load(), USERS), Library.of(settings)
        drain = drains(settings, client, store, filler)
        drain()  # everybody is known then
        found = []
        for turn in range(count):
            rates = {}
            for on in (False, True) if turn % 2 else (True, False):
                recalibrate(library, (1.2, -0.3) if on else None)
                rates[on] = drain()
            found.append((rates[True][0] / rates[False][0], rates[False][1] / rates[True][1]))
    return found


def recalibrate(library: Library, numbers: tuple[float, float] | None) -> None:
    """Of each alert model that is deployed, for the organisation of which all people are."""
    for service in load().services:
        if service.alert and (version := library.current(service.name)):
            library.calibrate(service.name, version, "bench", numbers, "bench", "to see what it costs")


def drains(settings: Settings, client: redis.Redis, store: Store, filler: Filler) -> Callable[[], tuple[float, float]]:
    """Each call fills the log and has an engine read it to its end: events a second, CPU seconds an event."""
    at, total = MIDNIGHT, 0

    def drain() -> tuple[float, float]:
        nonlocal at, total
        filler.fill(zipf(USERS, 1.05, EVENTS, filler.rng), at, at + 10_000)
        at, total = at + 10_000, total + EVENTS
        with running(settings, client) as engine:
            began, first, cpu = time.perf_counter(), accounted(client, store), cpu_seconds(engine.pid)
            while accounted(client, store) < total:
                time.sleep(0.02)
            done = total - first
            return done / (time.perf_counter() - began), (cpu_seconds(engine.pid) - cpu) / done

    return drain
