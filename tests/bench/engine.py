"""How many events a second the whole engine sustains, from a filled log to features and state in the store."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import redis

from feature_repo import keys
from feature_repo.settings import Settings
from feature_repo.vocabulary import load
from flows.store import Embedded, connect, create, embedded
from tests.bench.filled import Filler, zipf

DAY = 86_400_000
MIDNIGHT = 1_772_323_200_000  # 2026-03-01


def processed(client: redis.Redis, partitions: int) -> int:
    with client.pipeline(transaction=False) as pipe:
        for p in range(partitions):
            pipe.hgetall(keys.counts(p))
        return sum(int(v) for c in pipe.execute() for k, v in c.items() if k != b"accepted")


def resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def start(settings: Settings) -> subprocess.Popen[bytes]:
    """The engine as `telltale up` starts it."""
    environ = {
        **os.environ,
        "TELLTALE_HOME": str(settings.home),
        "TELLTALE_REDIS_URL": settings.redis_url,
        "TELLTALE_CACHE_USERS": str(settings.cache_users),
    }
    return subprocess.Popen([sys.executable, "-m", "flows.alerting"], env=environ, stderr=subprocess.DEVNULL)


def run(users: int = 1_000_000, events: int = 30_000_000, seconds: float = 300.0, rewrite: bool = True) -> dict[str, float]:
    """Fill, start, sample each second until the log is read."""
    with tempfile.TemporaryDirectory() as home:
        server = embedded(Path(home))
        try:
            return _run(server, Path(home), users, events, rewrite)
        finally:
            server.stop()


def _run(server: Embedded, home: Path, users: int, events: int, rewrite: bool) -> dict[str, float]:
    settings = Settings(home=home, redis_url=f"unix://{server.where.socket}", clock="log")
    client = connect(settings)
    store = create(client, settings)
    client.config_set("appendfsync", "no")
    filler = Filler(client, store, load(), users)
    span = events // 100  # ms at 100,000 events/s
    begin = MIDNIGHT - span // 2
    chunk = 2_000_000
    for low in range(0, events, chunk):
        n = min(chunk, events - low)
        filler.fill(zipf(users, 1.05, n, filler.rng), begin + low // 100, begin + (low + n) // 100)
    print("filled", client.info("memory")["used_memory_human"], file=sys.stderr)
    client.config_set("appendfsync", "always")
    engine = start(settings)
    rates, last, started, t0 = [], 0, 0.0, time.time()
    asked = False
    try:
        while last < events:
            time.sleep(1.0)
            now, done = time.time(), processed(client, store.partitions)
            if not started and done:
                started = now
            rates.append((done - last) / (now - t0))
            last, t0 = done, now
            if rewrite and not asked and done > events // 2:
                client.bgrewriteaof()
                asked = True
            print(int(rates[-1]), done, int(resident_mb(engine.pid)), "MB", file=sys.stderr)
        gauges = {k.decode(): float(v) for k, v in client.hgetall(keys.GAUGES).items()}
        print(gauges, file=sys.stderr)
        dbsize, memory = client.dbsize(), client.info("memory")["used_memory"]
        for p in range(store.partitions):
            client.delete(keys.log(p))
        used = client.info("memory")["used_memory"]
        print("memory", memory, used, dbsize, gauges["users_cached"], used / gauges["users_cached"], file=sys.stderr)
        return {
            "events_per_s": float(np.median(rates[2:-1])),
            "worst_second": float(np.min(rates[2:-1])),
            "engine_mb": resident_mb(engine.pid),
            "redis_bytes_per_user": used / gauges["users_cached"],
        }
    finally:
        engine.terminate()
        engine.wait(20)


if __name__ == "__main__":
    print(run(int(sys.argv[1]), int(sys.argv[2]), rewrite=len(sys.argv) > 3))
