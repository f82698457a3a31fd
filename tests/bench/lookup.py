"""How fast features are read over HTTP, beside Feast's own feature server on the same store in the same run.

Servers (of one process each), store and load generator share the machine's cores. Ratios are of requests a second at
8 connections; `c1`: one connection alone; `c32`: 4,000 requests a second over 32 connections, each timed from when it
was due; `100`: 100 users a request.
"""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import redis

from feature_repo.layout import double, entity_key, field, timestamp, timestamp_field
from feature_repo.settings import Settings
from feature_repo.vocabulary import Vocabulary
from flows.store import connect, embedded
from tests.bench.environments import installed
from tests.bench.options import Options
from tests.bench.result import ROOT, Figure, Result, figure
from tests.feast_serve import feast_serve, room
from tests.live import KEY, ORGANISATION, Live, live

USERS, MANY = 20_000, 100
RATE = 4_000.0
Run = dict[str, float]


def run(options: Options) -> Result:
    seconds = options.seconds or 6.0
    with store_with_people() as settings, tempfile.TemporaryDirectory(prefix="telltale-bench-") as place:
        here = Path(place)
        one, many = bodies(here / "one", "", 1), bodies(here / "many", "", MANY)
        their_one, their_many = (bodies(here / f"their_{n}", f"{ORGANISATION}/", n) for n in (1, MANY))
        copy = room(here, settings)
        with live(settings, "serving.feature_server") as ours, feast_serve(copy, settings) as theirs:
            for server, file in ((ours, one), (ours, many), (theirs, their_one), (theirs, their_many)):
                load(server, 8, 1.0, 0, file)  # warm
            rounds = [
                {
                    "c1": load(ours, 1, seconds, 0, one),
                    "c8": load(ours, 8, seconds, 0, one),
                    "c32": load(ours, 32, seconds, RATE, one),
                    "many": load(ours, 1, seconds, 0, many),
                    "many_c8": load(ours, 8, seconds, 0, many),
                    "their_c1": load(theirs, 1, seconds, 0, their_one),
                    "their_c8": load(theirs, 8, seconds, 0, their_one),
                    "their_many": load(theirs, 1, seconds, 0, their_many),
                    "their_many_c8": load(theirs, 8, seconds, 0, their_many),
                }
                for _ in range(options.runs)
            ]
    return Result(
        _figures(rounds), {"feast_serve": _theirs(rounds)}, {"feast_serve": installed("feast", "fastapi", "uvicorn")}
    )


def _figures(rounds: list[dict[str, Run]]) -> dict[str, Figure]:
    return {
        "requests_per_s": figure([_rate(r["c8"]) for r in rounds], "1/s"),
        "ratio_feast_c8": figure([_rate(r["c8"]) / _rate(r["their_c8"]) for r in rounds], "x"),
        "p99_ms_c1": figure([r["c1"]["p99_ms"] for r in rounds], "ms"),
        "p999_ms_c1": figure([r["c1"]["p999_ms"] for r in rounds], "ms"),
        "p99_ms_c32": figure([r["c32"]["p99_ms"] for r in rounds], "ms"),
        "p999_ms_c32": figure([r["c32"]["p999_ms"] for r in rounds], "ms"),
        "rate_c32": figure([_rate(r["c32"]) for r in rounds], "1/s"),
        "ratio_feast_100": figure([_rate(r["many_c8"]) / _rate(r["their_many_c8"]) for r in rounds], "x"),
        "ratio_feast_100_c1": figure([_rate(r["many"]) / _rate(r["their_many"]) for r in rounds], "x"),
        "p99_ms_100": figure([r["many"]["p99_ms"] for r in rounds], "ms"),
        "p999_ms_100": figure([r["many"]["p999_ms"] for r in rounds], "ms"),
        "requests_per_s_100": figure([_rate(r["many_c8"]) for r in rounds], "1/s"),
    }


def _theirs(rounds: list[dict[str, Run]]) -> dict[str, Figure]:
    return {
        "requests_per_s": figure([_rate(r["their_c8"]) for r in rounds], "1/s"),
        "p99_ms_c1": figure([r["their_c1"]["p99_ms"] for r in rounds], "ms"),
        "requests_per_s_100": figure([_rate(r["their_many_c8"]) for r in rounds], "1/s"),
        "p99_ms_100": figure([r["their_many"]["p99_ms"] for r in rounds], "ms"),
    }


def _rate(found: Run) -> float:
    return found["requests"] / found["seconds"]


def load(server: Live, connections: int, seconds: float, rate: float, bodies: Path, *path: str) -> Run:
    """One run of the load generator. Raises RuntimeError when a request failed."""
    words = [str(server.port), KEY, str(connections), str(seconds), str(rate), str(bodies), *path]
    command = [sys.executable, "-m", "tests.bench.lookup_load", *words]
    result = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)
    if result["failed"]:
        raise RuntimeError(f"{result['failed']} of {result['requests']} requests failed")
    return dict(result)


@contextlib.contextmanager
def store_with_people() -> Iterator[Settings]:
    """One with people whose features stand in it."""
    with tempfile.TemporaryDirectory(prefix="telltale-bench-") as home:
        settings = Settings(home=Path(home))
        server = embedded(settings.home)
        try:
            with contextlib.closing(connect(settings)) as client:
                _fill(client)
            yield settings
        finally:
            server.stop()


def _fill(client: redis.Redis) -> None:
    """As the flow writes them: a third of the values are whole numbers, a third zero."""
    rng, vocabulary, now = random.Random(3), Vocabulary(), time.time_ns() // 1_000_000
    fields = [field(vocabulary.view, feature.name) for feature in vocabulary.features]
    stamp = timestamp_field(vocabulary.view)
    with client.pipeline(transaction=False) as pipe:
        for i in range(USERS):
            values = {f: double(rng.choice([0.0, float(rng.randrange(50)), rng.random() * 90])) for f in fields}
            key = entity_key(vocabulary.join_key, f"{ORGANISATION}/user-{i}".encode())
            pipe.hset(key, mapping={stamp: timestamp(now - rng.randrange(3_600_000)), **values})
            if i % 500 == 0:
                pipe.execute()
        pipe.execute()


def bodies(file: Path, prefix: str, users: int) -> Path:
    """Requests for so many of them at random, all 45 features each."""
    rng, vocabulary = random.Random(5), Vocabulary()
    features = [f"{vocabulary.view}:{feature.name}" for feature in vocabulary.features]
    with file.open("wb") as out:
        for _ in range(2_000 // users):
            who = [f"{prefix}user-{rng.randrange(USERS)}" for _ in range(users)]
            out.write(msgspec.json.encode({"features": features, "entities": {vocabulary.join_key: who}}) + b"\n")
    return file
