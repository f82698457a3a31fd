"""What growing to a million people costs: an event and person written, memory, and how soon a new engine is at work.

At each size everybody is known, by one event; then rounds of people are written again (`engine.cost`), and another
engine starts. `restart_s`: from its start until it has counted and written an event that waited for it.
"""

from __future__ import annotations

import time

from feature_repo.vocabulary import load
from tests.bench.engine import (
    MIDNIGHT,
    people,
    resident_mb,
    running,
    store_for_bench,
    trim,
    wait_for,
    written_at_a_cost,
)
from tests.bench.filled import Filler
from tests.bench.options import Options
from tests.bench.result import Curve, Result, figure

SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
QUICK = (10_000, 30_000, 100_000)
UNITS = {"cpu_us": "us", "engine_mb": "MB", "redis_bytes": "B", "restart_s": "s"}
TITLES = {
    "cpu_us": "CPU a person written",
    "engine_mb": "memory of the engine",
    "redis_bytes": "store a person",
    "restart_s": "restart until at work",
}


def run(options: Options) -> Result:
    found = {size: _at(size) for size in (QUICK if options.seconds else SIZES)}
    return Result(
        {
            f"{name}_{size // 1000}k": figure([value], UNITS[name])
            for size, values in found.items()
            for name, value in values.items()
        },
        curves={
            title: Curve("people", UNITS[name], [(size, values[name]) for size, values in found.items()])
            for name, title in TITLES.items()
        },
    )


def _at(size: int) -> dict[str, float]:
    with store_for_bench() as (settings, server, client, store):
        client.config_set("auto-aof-rewrite-percentage", 0)
        empty = float(client.info("memory")["used_memory"])
        filler = Filler(client, store, load(), size)
        with running(settings, client) as engine:
            done, cost = written_at_a_cost(filler, engine, server, size)
            memory = resident_mb(engine.pid)
        trim(client, store)
        used = (float(client.info("memory")["used_memory"]) - empty) / people(client)
        start = MIDNIGHT + 1_200_000
        filler.fill(filler.rng.choice(size, 1), start, start)
        began = time.perf_counter()
        with running(settings, client):
            wait_for(client, store, done + 1)
            restart = time.perf_counter() - began
        return {"cpu_us": cost * 1e6, "engine_mb": memory, "redis_bytes": used, "restart_s": restart}
