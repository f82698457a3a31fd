"""What a second engine brings: events a second of one engine and of two, over the same filled log.

300 k people, Zipf 1.05, all features, signals and models, `appendfsync always`, a new store for each. Taken from when
each engine has its share until nine tenths are worked, since the partitions are not equally full. `cores_busy` is what
engines and store took of the processors: where that comes near what the machine has, the ratio is the machine's.
Then the CPU an event says more: `two_to_one_with_cores` is the ratio that the busiest process, of engines and store,
would allow if each had a core of its own.
"""

from __future__ import annotations

import time
from contextlib import ExitStack

import msgspec
import redis

from feature_repo import keys
from feature_repo.settings import Settings
from feature_repo.vocabulary import load
from flows.store import Embedded, Store
from tests.bench.engine import AIM, MIDNIGHT, accounted, alive, cpu_seconds, started, store_for_bench
from tests.bench.filled import Filler, zipf
from tests.bench.options import Options
from tests.bench.result import Figure, Result, figure

USERS = 300_000
SECONDS = 30.0
PAUSE = 0.1


class Run(msgspec.Struct):
    """CPU in us an event: of the engines together, of each in us an event of all, and of the store."""

    events_per_s: float
    engines_us: float
    busiest_us: float
    store_us: float
    cores: float


def run(options: Options) -> Result:
    events = int((options.seconds or SECONDS) * AIM)
    runs = [(_drained(1, events), _drained(2, events)) for _ in range(options.runs)]
    one, two = zip(*runs, strict=True)
    return Result(
        {
            **_figures("one", one),
            **_figures("two", two),
            "two_to_one": figure([b.events_per_s / a.events_per_s for a, b in runs], "x"),
            "two_to_one_with_cores": figure([_busiest(a) / _busiest(b) for a, b in runs], "x"),
            "two_to_one_cpu_an_event": figure(
                [(b.engines_us + b.store_us) / (a.engines_us + a.store_us) for a, b in runs], "x", "lower"
            ),
        }
    )


def _busiest(one: Run) -> float:
    return max(one.busiest_us, one.store_us)


def _figures(name: str, runs: tuple[Run, ...]) -> dict[str, Figure]:
    return {
        f"{name}_events_per_s": figure([each.events_per_s for each in runs], "1/s"),
        f"{name}_engines_cpu_us_per_event": figure([each.engines_us for each in runs], "us"),
        f"{name}_busiest_engine_cpu_us_per_event": figure([each.busiest_us for each in runs], "us"),
        f"{name}_store_cpu_us_per_event": figure([each.store_us for each in runs], "us"),
        f"{name}_cores_busy": figure([each.cores for each in runs], "cores"),
    }


def _drained(engines: int, events: int) -> Run:
    with store_for_bench() as (settings, server, client, store):
        filler = Filler(client, store, load(), USERS)
        client.config_set("appendfsync", "no")
        filler.fill(zipf(USERS, 1.05, events, filler.rng), MIDNIGHT, MIDNIGHT + events * 1000 // AIM)
        client.config_set("appendfsync", "always")
        return _measured(engines, events, settings, server, client, store)


def _measured(
    engines: int, events: int, settings: Settings, server: Embedded, client: redis.Redis, store: Store
) -> Run:
    with ExitStack() as stack:
        pids = [stack.enter_context(started(settings)).pid for _ in range(engines)]
        while not _shared(client, engines):
            time.sleep(PAUSE)
        first, began, before = accounted(client, store), time.perf_counter(), _cpu(*pids, server.where.pid)
        while (done := accounted(client, store)) < 0.9 * events:
            time.sleep(PAUSE)
        took, after = time.perf_counter() - began, _cpu(*pids, server.where.pid)
    *each, theirs = (1e6 * (b - a) / (done - first) for a, b in zip(before, after, strict=True))
    rate = (done - first) / took
    return Run(rate, sum(each), max(each), theirs, (sum(each) + theirs) * rate / 1e6)


def _shared(client: redis.Redis, engines: int) -> bool:
    """Whether each has its share."""
    told = [client.hget(keys.gauges(name), "partitions") for name in alive(client)]
    each = [float(partitions) for partitions in told if partitions]
    return len(each) == engines and max(each) - min(each) < 2


def _cpu(*pids: int) -> list[float]:
    return list(map(cpu_seconds, pids))
