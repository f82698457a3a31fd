"""How soon after an event was accepted its feature, and its alert, can be read; at 5,000 events/s in batches of 50.

Everything runs as in earnest: store, API, engine and drain are processes, the load comes through the public
door. Probes post one event, wait for the answer and then ask the store until the feature shows it. For alerts
somebody new does in one batch what somebody does who is about to sell, as the shipped model and threshold see it.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import redis

from feature_repo import layout
from feature_repo.settings import Settings
from feature_repo.vocabulary import load
from flows.store import connect, embedded
from tests.bench.options import Options
from tests.bench.result import ROOT, Result, figure
from tests.live import KEY, ORGANISATION, Live, environment, live

RATE, BATCH = 5_000, 50
PROBES_S, ALERTS_S = 20, 4  # a second
SELLING: tuple[tuple[str, int, dict[str, object]], ...] = (
    ("Document Shared", 9, {}),
    ("Document Downloaded", 8, {}),
    ("Property Value Checked", 7, {}),
    ("Document Viewed", 6, {}),
    ("Session Ended", 6, {"minutes": 9}),
    ("Comparable Viewed", 7, {}),
    ("Calculator Used", 8, {}),
    ("Market Report Viewed", 4, {}),
    ("Email Link Clicked", 2, {"topic": "refinance"}),
    ("Profile Updated", 2, {"field": "address"}),
)
FLOWS = ("flows.alerting", "flows.alert_drain")


def run(options: Options) -> Result:
    seconds = options.seconds or 20.0
    runs = [_run(seconds) for _ in range(options.runs)]
    return Result(
        {
            "feature_p50_ms": figure([at(f, 0.5) for f, _, _ in runs], "ms"),
            "feature_p99_ms": figure([at(f, 0.99) for f, _, _ in runs], "ms"),
            "alert_p50_ms": figure([at(a, 0.5) for _, a, _ in runs], "ms"),
            "alert_p99_ms": figure([at(a, 0.99) for _, a, _ in runs], "ms"),
            "events_per_s": figure([rate for _, _, rate in runs], "1/s"),
        }
    )


def at(times: list[float], share: float) -> float:
    return statistics.quantiles(times, n=1000, method="inclusive")[int(share * 1000) - 1]


def _run(seconds: float) -> tuple[list[float], list[float], float]:
    with everything() as (api, client):
        command = [sys.executable, "-m", "tests.bench.paced", str(api.port), KEY, str(RATE), str(BATCH), str(seconds)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as pace:
            time.sleep(3.0)  # until it is under way and people are known
            features, alerts = _probe(api, client, seconds - 4.0)
            assert pace.stdout
            return features, alerts, float(pace.stdout.read())


def _probe(api: Live, client: redis.Redis, seconds: float) -> tuple[list[float], list[float]]:
    until, n = time.monotonic() + seconds, 0
    features: list[float] = []
    alerts: list[float] = []
    while time.monotonic() < until:
        n += 1
        features.append(feature_ms(api, client, f"probe-{n % 50}", n))
        if n % (PROBES_S // ALERTS_S) == 0:
            alerts.append(_alert(api, n))
        time.sleep(1 / PROBES_S)
    return features, alerts


def feature_ms(api: Live, client: redis.Redis, user: str, n: int) -> float:
    """Milliseconds from the answer until one more opened document of this user shows."""
    vocabulary = load()
    key = layout.entity_key(vocabulary.join_key, f"{ORGANISATION}/{user}".encode())
    field = layout.field(vocabulary.view, "doc_access_count_30d")
    expected = (layout.read_double(client.hget(key, field)) or 0.0) + 1
    answer = api.post("/v1/track", {"userId": user, "event": "Document Viewed", "messageId": f"probe-{n}"})
    if answer.status != 200:
        raise RuntimeError(f"expected 200, got {answer.status}: {answer.body.decode()}")
    return _until(lambda: layout.read_double(client.hget(key, field)) == expected)


def _alert(api: Live, n: int) -> float:
    """Milliseconds from the answer until the alert of somebody new is listed."""
    user = f"seller-{n}"
    events = [
        {"type": "track", "userId": user, "event": name, "messageId": f"{user}-{name}-{i}", "properties": properties}
        for name, times, properties in SELLING
        for i in range(times)
    ]
    answer = api.post("/v1/batch", {"batch": events})
    if answer.status != 200:
        raise RuntimeError(f"expected 200, got {answer.status}: {answer.body.decode()}")
    return _until(lambda: bool(json.loads(api.ask("GET", f"/v1/alerts?user={user}").body)["alerts"]))


def _until(done: Callable[[], bool]) -> float:
    began = time.perf_counter()
    while not done():
        if time.perf_counter() - began > 10:
            raise RuntimeError("expected it within 10 s")
        time.sleep(0.0003)
    return (time.perf_counter() - began) * 1000


@contextlib.contextmanager
def everything() -> Iterator[tuple[Live, redis.Redis]]:
    with tempfile.TemporaryDirectory(prefix="telltale-bench-") as home:
        server = embedded(Path(home))
        settings = Settings(home=Path(home), withheld=0.0)  # an alert that nobody is told of would not come
        try:
            with live(settings) as api, _flows(api.settings), contextlib.closing(connect(settings)) as client:
                time.sleep(3.0)
                yield api, client
        finally:
            server.stop()


@contextlib.contextmanager
def _flows(settings: Settings) -> Iterator[None]:
    processes = [
        subprocess.Popen([sys.executable, "-m", flow], cwd=ROOT, env=environment(settings), stderr=subprocess.DEVNULL)
        for flow in FLOWS
    ]
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(10)
