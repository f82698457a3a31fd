"""How many requests and events a second one API process takes, each answered after its fsync.

The API, the store and the load generator are processes of their own and share the machine's cores.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import redis

from feature_repo import keys
from feature_repo.settings import Settings
from flows.store import connect, embedded
from tests.bench.options import Options
from tests.bench.result import ROOT, Result, figure
from tests.live import KEY, Live, live

BATCH = 500
SINGLES, BATCHES = 96, 12  # connections


def run(options: Options) -> Result:
    seconds = options.seconds or 5.0
    with _store() as settings:
        with live(settings) as api, live(settings, "tests.bench.plain_door") as plain:
            for door in (api, plain):
                load(door, SINGLES, 1.0, 0)  # warm
            singles = [(load(api, SINGLES, seconds, 0), load(plain, SINGLES, seconds, 0)) for _ in range(options.runs)]
        with live(settings) as api, contextlib.closing(connect(settings)) as client:
            batches = []
            for _ in range(options.runs):
                batches.append(load(api, BATCHES, seconds, BATCH))
                _trim(client)
    ours, theirs = [run for run, _ in singles], [run for _, run in singles]
    ratios = [a / b for a, b in zip(map(_rate, ours), map(_rate, theirs), strict=True)]
    figures = {
        "requests_per_s": figure([_rate(run) for run in ours], "1/s"),
        "batch_events_per_s": figure([BATCH * _rate(run) for run in batches], "1/s"),
        "request_p50_ms": figure([run["p50_ms"] for run in ours], "ms"),
        "request_p99_ms": figure([run["p99_ms"] for run in ours], "ms"),
        "batch_p50_ms": figure([run["p50_ms"] for run in batches], "ms"),
        "batch_p99_ms": figure([run["p99_ms"] for run in batches], "ms"),
        "ratio_plain_door": figure(ratios, "x"),
    }
    return Result(figures, {"plain_door": {"requests_per_s": figure([_rate(run) for run in theirs], "1/s")}})


def _rate(run: dict[str, float]) -> float:
    return run["requests"] / run["seconds"]


def load(api: Live, connections: int, seconds: float, batch: int) -> dict[str, float]:
    """One run of the load generator. Raises RuntimeError when a request failed."""
    command = [sys.executable, "-m", "tests.bench.load", str(api.port), KEY, str(connections), str(seconds), str(batch)]
    result = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)
    if result["failed"]:
        raise RuntimeError(f"{result['failed']} of {result['requests']} requests failed")
    return dict(result)


@contextlib.contextmanager
def _store() -> Iterator[Settings]:
    with tempfile.TemporaryDirectory(prefix="telltale-bench-") as home:
        server = embedded(Path(home))
        try:
            yield Settings(home=Path(home))
        finally:
            server.stop()


def _trim(client: redis.Redis) -> None:
    """Drops what nobody here will read."""
    for p in range(Settings().partitions):
        client.xtrim(keys.log(p), maxlen=0, approximate=False)
