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
    with _api() as (api, client):
        load(api, SINGLES, 1.0, 0)  # warm
        singles = [load(api, SINGLES, seconds, 0) for _ in range(options.runs)]
        batches = []
        for _ in range(options.runs):
            batches.append(load(api, BATCHES, seconds, BATCH))
            _trim(client)
    return Result(
        {
            "requests_per_s": figure([r["requests"] / r["seconds"] for r in singles], "1/s"),
            "request_p50_ms": figure([r["p50_ms"] for r in singles], "ms"),
            "request_p99_ms": figure([r["p99_ms"] for r in singles], "ms"),
            "batch_events_per_s": figure([BATCH * r["requests"] / r["seconds"] for r in batches], "1/s"),
            "batch_p50_ms": figure([r["p50_ms"] for r in batches], "ms"),
            "batch_p99_ms": figure([r["p99_ms"] for r in batches], "ms"),
        }
    )


def load(api: Live, connections: int, seconds: float, batch: int) -> dict[str, float]:
    """One run of the load generator. Raises RuntimeError when a request failed."""
    command = [sys.executable, "-m", "tests.bench.load", str(api.port), KEY, str(connections), str(seconds), str(batch)]
    result = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)
    if result["failed"]:
        raise RuntimeError(f"{result['failed']} of {result['requests']} requests failed")
    return dict(result)


@contextlib.contextmanager
def _api() -> Iterator[tuple[Live, redis.Redis]]:
    with tempfile.TemporaryDirectory(prefix="telltale-bench-") as home:
        server = embedded(Path(home))
        settings = Settings(home=Path(home))
        try:
            with live(settings) as api, contextlib.closing(connect(settings)) as client:
                yield api, client
        finally:
            server.stop()


def _trim(client: redis.Redis) -> None:
    """Drops what nobody here will read."""
    for p in range(Settings().partitions):
        client.xtrim(keys.log(p), maxlen=0, approximate=False)
