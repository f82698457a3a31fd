"""How soon after an alert was stored its webhook is received: 100 endpoints, 4 alerts a second, then with one hung.

Store, process that delivers and receivers are processes; alerts are stored and announced as the drain does it. A
million deliveries that are done stand in the table when it begins.
"""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from feature_repo import keys
from feature_repo.settings import Settings
from flows.alert_store import AlertStore, open_alerts
from flows.delivery import wall_ms
from flows.store import connect, create, embedded
from tests.bench.options import Options
from tests.bench.result import ROOT, Result, figure
from tests.flows.delivered import endpoint
from tests.flows.made_alerts import alert
from tests.live import worker

ENDPOINTS, RATE = 100, 4  # alerts a second: 400 webhooks
SECONDS = 15.0
SETTLE_S = 20.0  # for what is still on its way
DONE = 1_000_000  # deliveries that are done before it begins
OLD = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :many)
INSERT INTO deliveries (id, organisation, channel, target, alert_id, state, attempts, tries, due_at, expires_at,
                        created_at, done_at)
SELECT 'old_' || i, 'acme', 'webhook', 'wh_' || (i % 100), 'old_' || (i / 100), 'DONE', 1, 0, 0, 0, 0, i FROM n
"""


def run(options: Options) -> Result:
    seconds = options.seconds or SECONDS
    runs = [(_times(seconds, hung=False), _times(seconds, hung=True)) for _ in range(options.runs)]
    return Result(
        {
            "received_p50_ms": figure([_at(all_, 0.5) for all_, _ in runs], "ms"),
            "received_p99_ms": figure([_at(all_, 0.99) for all_, _ in runs], "ms"),
            "one_hung_p50_ms": figure([_at(others, 0.5) for _, others in runs], "ms"),
            "one_hung_p99_ms": figure([_at(others, 0.99) for _, others in runs], "ms"),
        }
    )


def _at(times: list[float], share: float) -> float:
    return statistics.quantiles(times, n=1000, method="inclusive")[int(share * 1000) - 1]


def _times(seconds: float, *, hung: bool) -> list[float]:
    """Milliseconds from stored to received, of each alert at each endpoint that does not hang."""
    with tempfile.TemporaryDirectory(prefix="telltale-bench-") as home, _receiver() as (port, lines):
        settings = Settings(home=Path(home), webhook_allow="127.0.0.0/8")
        server = embedded(settings.home)
        store = open_alerts(settings)
        try:
            with store.engine.begin() as sql:
                sql.execute(sa.text(OLD), {"many": DONE})
            for n in range(ENDPOINTS):
                endpoint(store.engine, f"http://127.0.0.1:{port}/{'hung' if hung and not n else n}", n)
            with contextlib.closing(connect(settings)) as client:
                create(client, settings)
            with worker(settings, "flows.delivering"):
                time.sleep(3.0)
                stored = _store(settings, store, seconds)
                return _received(lines, stored, len(stored) * (ENDPOINTS - hung))
        finally:
            store.close()
            server.stop()


def _store(settings: Settings, store: AlertStore, seconds: float) -> dict[str, int]:
    """Alert -> nanoseconds since 1970 when it was stored."""
    found, began = dict[str, int](), time.monotonic()
    with contextlib.closing(connect(settings)) as client:
        for n in range(int(seconds * RATE)):
            made = alert(n, stored_at=wall_ms())
            head = store.insert([made])
            found[made.id] = time.time_ns()
            client.publish(keys.ALERTS_STORED, head)
            time.sleep(max(began + (n + 1) / RATE - time.monotonic(), 0.0))
    return found


def _received(lines: Path, stored: dict[str, int], many: int) -> list[float]:
    deadline = time.monotonic() + SETTLE_S
    while True:
        came = [line.split() for line in lines.read_text().splitlines()[1:]]
        if len(came) >= many:
            return [(int(at) - stored[id_]) / 1e6 for _, id_, at in came]
        if time.monotonic() > deadline:
            raise RuntimeError(f"expected {many} webhooks within {SETTLE_S:.0f} s, got {len(came)}")
        time.sleep(0.5)


@contextlib.contextmanager
def _receiver() -> Iterator[tuple[int, Path]]:
    """Its port, and the file where it tells what came."""
    with tempfile.NamedTemporaryFile() as out:
        process = subprocess.Popen([sys.executable, "-m", "tests.bench.receiver"], cwd=ROOT, stdout=out)
        try:
            while not (told := Path(out.name).read_text().splitlines()):
                time.sleep(0.05)
            yield int(told[0]), Path(out.name)
        finally:
            process.terminate()
            process.wait(10)
