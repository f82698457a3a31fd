"""What the whole engine sustains, from a filled log to features and state in the store.

One million people, Zipf 1.05, all features, signals and models, written with the state under
`appendfsync always`; the log spans an hour and a midnight, and the append-only file is rewritten meanwhile.
Beside it, over the same log: Bytewax's own windows computing a tenth of it. The cost of one person written is
compared between stores of 10 k and 1 M people, in CPU seconds of engine and store together.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import redis

from feature_repo import keys
from feature_repo.settings import Settings
from feature_repo.vocabulary import load
from flows.members import Said, engines
from flows.store import Embedded, Store, connect, create, embedded
from tests.bench.filled import Filler, zipf
from tests.bench.options import Options
from tests.bench.result import ROOT, Result, figure
from tests.live import environment

MIDNIGHT = 1_772_323_200_000  # 2026-03-01
AIM = 100_000  # events a second: the pace of the log's clock
SECONDS = 330.0
USERS = 1_000_000
CHUNK = 2_000_000
PEER_EVENTS = 8_000  # it keeps 24 windows an event
SAMPLE = 5.0  # seconds: several flushes
ROUNDS, ROUND = 40, 10_000


class Run(msgspec.Struct):
    """A log read to its end: events a second, in pieces of it and on average; what engine and store came to."""

    samples: list[float]
    mean: float
    engine_mb: float
    users: float
    redis_bytes: float


def run(options: Options) -> Result:
    events = int((options.seconds or SECONDS) * AIM * 1.2)  # enough for a fifth above the aim
    with store_for_bench() as (settings, _, client, store):
        filler = Filler(client, store, load(), USERS)
        _fill(filler, events)
        peer = _peer(settings)
        found = drained(settings, client, store, events)
    small, large = cost(10_000), cost(USERS)
    return Result(
        {
            "events_per_s": figure(found.samples[1:-1], "1/s"),
            "mean_events_per_s": figure([found.mean], "1/s"),
            "seconds": figure([events / found.mean], "s", ""),
            "ratio_bytewax_windows": figure([x / peer for x in found.samples[1:-1]], "x"),
            "cost_ratio_1m_10k": figure([large / small], "x", "lower"),
            "cpu_us_per_user_1m": figure([large * 1e6], "us"),
            "engine_mb": figure([found.engine_mb], "MB"),
            "redis_bytes_per_user": figure([found.redis_bytes / found.users], "B"),
        },
        {"bytewax windows": {"events_per_s": figure([peer], "1/s")}},
    )


def cost(users: int) -> float:
    """CPU seconds a person written, of engine and store together, where everybody is known already.

    In rounds of equal size, each of distinct people with one event, all within an hour: so a small store neither counts
    more events a person written than a large one, nor closes fewer tiles. The append-only file's rewrites are no part
    of it: they come by its size, a hundred times as often in a small store.
    """
    with store_for_bench() as (settings, server, client, store):
        client.config_set("auto-aof-rewrite-percentage", 0)
        filler = Filler(client, store, load(), users)
        with running(settings, client) as engine:
            return written_at_a_cost(filler, engine, server, users)[1]


def written_at_a_cost(
    filler: Filler, engine: subprocess.Popen[bytes], server: Embedded, users: int
) -> tuple[int, float]:
    """(events until now, CPU seconds a person written), as `cost` says."""
    client, store = filler.client, filler.store
    filler.fill(filler.rng.permutation(users), MIDNIGHT + 60_000, MIDNIGHT + 660_000)
    wait_for(client, store, users)
    pids = (engine.pid, server.where.pid)
    written = said(client)["users_written"]
    cpu = sum(map(cpu_seconds, pids))
    for turn in range(1, ROUNDS + 1):
        start = MIDNIGHT + 900_000 + turn * 1000
        filler.fill(filler.rng.choice(users, ROUND, replace=False), start, start + 100)
        wait_for(client, store, users + turn * ROUND)
    cpu = sum(map(cpu_seconds, pids)) - cpu
    return users + ROUNDS * ROUND, cpu / (said(client)["users_written"] - written)


@contextlib.contextmanager
def store_for_bench() -> Iterator[tuple[Settings, Embedded, redis.Redis, Store]]:
    with tempfile.TemporaryDirectory(prefix="telltale-bench-") as home:
        server = embedded(Path(home))
        settings = Settings(home=Path(home), clock="log")
        try:
            with contextlib.closing(connect(settings)) as client:
                yield settings, server, client, create(client, settings)
        finally:
            server.stop()


def _fill(filler: Filler, events: int) -> None:
    begin = MIDNIGHT - events * 1000 // AIM // 2
    filler.client.config_set("appendfsync", "no")
    for low in range(0, events, CHUNK):
        n = min(CHUNK, events - low)
        start = begin + low * 1000 // AIM
        filler.fill(zipf(len(filler.uids), 1.05, n, filler.rng), start, start + n * 1000 // AIM)
    filler.client.config_set("appendfsync", "always")


def _peer(settings: Settings) -> float:
    command = [sys.executable, "-m", "tests.bench.windows_of_bytewax", str(PEER_EVENTS)]
    done = subprocess.run(command, cwd=ROOT, env=environment(settings), check=True, capture_output=True)
    return float(done.stdout)


@contextlib.contextmanager
def running(settings: Settings, client: redis.Redis) -> Iterator[subprocess.Popen[bytes]]:
    """The engine as `telltale up` starts it, once it says that it lives."""
    client.delete(keys.ENGINES)
    with started(settings) as engine:
        while not gauges(client):
            if engine.poll() is not None:
                raise RuntimeError(f"expected an engine that runs, it ended with {engine.returncode}")
            time.sleep(0.05)
        yield engine


@contextlib.contextmanager
def started(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "flows.alerting"]
    engine = subprocess.Popen(command, cwd=ROOT, env=environment(settings), stderr=subprocess.DEVNULL)
    try:
        yield engine
    finally:
        engine.terminate()
        engine.wait(30)


def drained(settings: Settings, client: redis.Redis, store: Store, total: int) -> Run:
    """Watch an engine read a filled log to its end; the append-only file is rewritten half-way."""
    samples: list[float] = []
    rewritten = False
    with running(settings, client) as engine:
        began = last = time.perf_counter()
        first = done = accounted(client, store)
        while done < total:
            time.sleep(SAMPLE)
            now, count = time.perf_counter(), accounted(client, store)
            samples.append((count - done) / (now - last))
            last, done = now, count
            if not rewritten and done > total // 2:
                with contextlib.suppress(redis.ResponseError):  # one is under way by itself
                    client.bgrewriteaof()
                rewritten = True
        memory, users = resident_mb(engine.pid), people(client)
    trim(client, store)
    used = float(client.info("memory")["used_memory"])
    return Run(samples, (done - first) / (last - began), memory, users, used)


def wait_for(client: redis.Redis, store: Store, total: int) -> None:
    """Until so many events are accounted for. Raises RuntimeError when the engine says nothing for a minute."""
    while accounted(client, store) < total:
        if time.time() * 1000 - max(said.at for said in alive(client).values()) > 60_000:
            raise RuntimeError(f"expected {total} events, the engine stopped at {accounted(client, store)}")
        time.sleep(0.05)


def trim(client: redis.Redis, store: Store) -> None:
    """Drop the log: its size is the lake's business, not a person's."""
    for p in range(store.partitions):
        client.xtrim(keys.log(p), maxlen=0, approximate=False)


def gauges(client: redis.Redis) -> dict[str, float]:
    """What the engines say of themselves, added up."""
    told: dict[str, float] = {}
    for engine in alive(client):
        for name, value in client.hgetall(keys.gauges(engine)).items():
            told[name.decode()] = told.get(name.decode(), 0.0) + float(value)
    return told


def alive(client: redis.Redis) -> dict[str, Said]:
    return engines(client.hgetall(keys.ENGINES))


def said(client: redis.Redis) -> dict[str, float]:
    """The gauges once they tell of all that was done until now."""
    time.sleep(1.5)
    return gauges(client)


def people(client: redis.Redis) -> float:
    """How many have state in the store."""
    return sum(1.0 for _ in client.scan_iter(keys.HOT + b"*", count=10_000))


def accounted(client: redis.Redis, store: Store) -> int:
    """Events that the engine has counted one way or another."""
    with client.pipeline(transaction=False) as pipe:
        for p in range(store.partitions):
            pipe.hgetall(keys.counts(p))
        found = pipe.execute()
    return sum(int(count) for counts in found for name, count in counts.items() if name != b"accepted")


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024
