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


class Run(msgspec.Struct):
    """A log read to its end: `cpu` seconds of engine and store, people written, what the engine came to."""

    samples: list[float]
    seconds: float
    cpu: float
    written: float
    engine_mb: float
    users: float
    redis_bytes: float


def run(options: Options) -> Result:
    events = int((options.seconds or SECONDS) * AIM * 1.2)  # enough for a fifth above the aim
    with _store() as (settings, server, client, store):
        filler = Filler(client, store, load(), USERS)
        _fill(filler, events)
        peer = _peer(settings)
        found = drained(settings, server, client, store, events, rewrite=True)
    small, large = cost(10_000, options), cost(USERS, options)
    return Result(
        {
            "events_per_s": figure(found.samples[2:-1] or found.samples, "1/s"),
            "mean_events_per_s": figure([events / found.seconds], "1/s"),
            "seconds": figure([found.seconds], "s"),
            "ratio_bytewax_windows": figure([x / peer for x in found.samples[2:-1] or found.samples], "x"),
            "cost_ratio_1m_10k": figure([large / small], "x"),
            "cpu_us_per_user_1m": figure([large * 1e6], "us"),
            "engine_mb": figure([found.engine_mb], "MB"),
            "redis_bytes_per_user": figure([found.redis_bytes / found.users], "B"),
        },
        {"bytewax windows": {"events_per_s": figure([peer], "1/s")}},
    )


def cost(users: int, options: Options) -> float:
    """CPU seconds a person written, of engine and store together, where everybody is known already."""
    with _store() as (settings, server, client, store):
        filler = Filler(client, store, load(), users)
        filler.fill(filler.rng.permutation(users), MIDNIGHT - 3_600_000, MIDNIGHT - 3_000_000)
        drained(settings, server, client, store, users)
        events = 400_000
        filler.fill(filler.rng.integers(0, users, events), MIDNIGHT, MIDNIGHT + events // 100)
        found = drained(settings, server, client, store, users + events)
        return found.cpu / found.written


@contextlib.contextmanager
def _store() -> Iterator[tuple[Settings, Embedded, redis.Redis, Store]]:
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


def drained(
    settings: Settings, server: Embedded, client: redis.Redis, store: Store, total: int, *, rewrite: bool = False
) -> Run:
    """Start the engine as `telltale up` does, and watch until `total` events are accounted for."""
    before = cpu_seconds(server.where.pid)
    done = accounted(client, store)
    left = total - done
    client.delete(keys.GAUGES)
    engine = subprocess.Popen(
        [sys.executable, "-m", "flows.alerting"], cwd=ROOT, env=environment(settings), stderr=subprocess.DEVNULL
    )
    samples: list[float] = []
    began = last = 0.0
    try:
        while done < total:
            time.sleep(1.0)
            now, count = time.perf_counter(), accounted(client, store)
            if began:
                samples.append((count - done) / (now - last))
            elif count > done:
                began = now
            last, done = now, count
            if rewrite and began and done > total - left // 2:
                with contextlib.suppress(redis.ResponseError):  # one is under way by itself
                    client.bgrewriteaof()
                rewrite = False
        time.sleep(1.5)  # until the gauges are written
        gauges = {name.decode(): float(value) for name, value in client.hgetall(keys.GAUGES).items()}
        cpu = cpu_seconds(server.where.pid) - before + cpu_seconds(engine.pid)
        memory = resident_mb(engine.pid)
    finally:
        engine.terminate()
        engine.wait(30)
    for p in range(store.partitions):
        client.xtrim(keys.log(p), maxlen=0, approximate=False)
    used = float(client.info("memory")["used_memory"])
    return Run(samples, last - began, cpu, gauges["users_written"], memory, gauges["users_cached"], used)


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


