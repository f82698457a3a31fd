"""Alerts over HTTP with 10,000 and a million of them in SQLite: statistics, lists, and 500 listeners to the live feed.

`stats_ms`: the slowest of 40 questions for random dates, over a year of a million alerts, told of some;
`list_*_ms`: the slowest kind of page (plain, by type, status and person, deep down), the median of its answers;
`feed_p99_ms`: from stored to received, 500 listeners on one API process. All of the filling goes the product's own way.
"""

from __future__ import annotations

import contextlib
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from feature_repo import keys
from feature_repo.finish import DAY
from feature_repo.settings import Settings
from flows import alert_outcomes, alert_status
from flows.alert import Alert, priority
from flows.alert_outcomes import Outcome
from flows.alert_store import AlertStore, open_alerts
from flows.store import connect, embedded
from tests.bench.options import Options
from tests.bench.result import ROOT, Result, figure
from tests.flows.made_alerts import alert
from tests.live import ORGANISATION, Live, live

FEW, MANY = 10_000, 1_000_000
PIECE = 10_000  # alerts a transaction
TOLD = 50  # of how many alerts the outcome of one is told
BEGAN, YEAR = 1_700_000_000_000, 365 * DAY
TYPES = ("LIKELY_TO_SELL", "LIKELY_TO_BUY", "REFINANCE_OPPORTUNITY", "INVESTMENT_INTEREST")
FEATURES = [round(i * 0.37, 2) for i in range(45)]
LISTENERS, RATE, SECONDS = 500, 4, 15.0
ASKED, PAGES = 40, 20


def run(options: Options) -> Result:
    seconds = options.seconds or SECONDS
    with tempfile.TemporaryDirectory(prefix="telltale-bench-") as home:
        server = embedded(Path(home))
        settings = Settings(home=Path(home), clock="log")
        store = open_alerts(settings)
        try:
            with live(settings) as api:
                _fill(store, range(FEW))
                few = [_lists(api, FEW) for _ in range(options.runs)]
                took = _fill(store, range(FEW, MANY))
                many = [_lists(api, MANY) for _ in range(options.runs)]
                stats = [max(_times(api, _dates())) for _ in range(options.runs)]
                feeds = [_feed(settings, api, store, seconds, turn) for turn in range(options.runs)]
        finally:
            store.close()
            server.stop()
    return Result(
        {
            "stats_ms": figure(stats, "ms"),
            "list_10k_ms": figure(few, "ms"),
            "list_1m_ms": figure(many, "ms"),
            "feed_p50_ms": figure([statistics.median(times) for times in feeds], "ms"),
            "feed_p99_ms": figure([statistics.quantiles(times, n=100)[98] for times in feeds], "ms"),
            "stored_per_s": figure([(MANY - FEW) / took], "alerts/s"),
        }
    )


def _fill(store: AlertStore, numbers: range) -> float:
    """Alerts over a year, delivered; a third went further, and of some was told. Seconds that it took."""
    rng, began = random.Random(numbers.start), time.perf_counter()
    for low in range(numbers.start, numbers.stop, PIECE):
        made = [_made(n, rng) for n in range(low, min(low + PIECE, numbers.stop))]
        store.insert(made)
        ids = [one.id for one in made]
        with store.writing() as sql:
            alert_status.move(sql, ids, "DELIVERED", who="in-app", at=BEGAN + YEAR)
            alert_status.move(sql, rng.sample(ids, len(ids) // 3), "ACKNOWLEDGED", who="ann", at=BEGAN + YEAR)
            sold = Outcome(outcome="TRUE_POSITIVE", converted=True, value=rng.random() * 1_000)
            for told, some in ((sold, ids[::TOLD]), (Outcome(outcome="FALSE_POSITIVE"), ids[1::TOLD])):
                alert_outcomes.record(sql, some, told, who="ann", at=BEGAN + YEAR, organisation=ORGANISATION)
    return time.perf_counter() - began


def _made(n: int, rng: random.Random) -> Alert:
    score, type_ = rng.uniform(0.4, 1.0), rng.choice(TYPES)
    changes = {"score": score, "type": type_, "model": type_.lower(), "priority": priority(score, rng.uniform(0.5, 1))}
    at = BEGAN + n * YEAR // MANY
    return alert(n, organisation=ORGANISATION, user=f"u{n % 100_000}", scored_at=at, features=FEATURES, **changes)


def _dates() -> list[str]:
    rng = random.Random(5)
    spans = [sorted(BEGAN + rng.randrange(YEAR) for _ in range(2)) for _ in range(ASKED)]
    return ["/v1/alerts/stats", *(f"/v1/alerts/stats?since={low}&until={high}" for low, high in spans)]


def _lists(api: Live, many: int) -> float:
    deep = f"{BEGAN + many // 2 * YEAR // MANY}-{many // 2}"
    kinds = ("limit=50", "type=LIKELY_TO_BUY", "status=ACKNOWLEDGED", "user=u17", f"cursor={deep}")
    return max(statistics.median(_times(api, [f"/v1/alerts?{kind}"] * PAGES)) for kind in kinds)


def _times(api: Live, paths: list[str]) -> list[float]:
    """Milliseconds of each answer, after one that is not timed."""
    api.ask("GET", paths[0])
    found = []
    for asked in paths:
        began = time.perf_counter()
        assert api.ask("GET", asked).status == 200
        found.append((time.perf_counter() - began) * 1000)
    return found


def _feed(settings: Settings, api: Live, store: AlertStore, seconds: float, turn: int) -> list[float]:
    """Milliseconds from stored to received, of each alert at each listener."""
    rng, stored = random.Random(turn), dict[str, int]()
    with _listeners(api) as lines, contextlib.closing(connect(settings)) as client:
        began = time.monotonic()
        for n in range(int(seconds * RATE)):
            made = msgspec.structs.replace(_made(n, rng), id=f"al_{turn:08x}{n:08x}")
            head = store.insert([made])
            stored[made.id] = time.time_ns()
            client.publish(keys.ALERTS_STORED, head)
            time.sleep(max(began + (n + 1) / RATE - time.monotonic(), 0.0))
        time.sleep(2.0)
        came = [line.split() for line in lines.read_text().splitlines()[1:]]
    if len(came) != len(stored) * LISTENERS:
        raise RuntimeError(f"expected each of {len(stored)} alerts at {LISTENERS} listeners once, got {len(came)}")
    return [(int(at) - stored[id_]) / 1e6 for id_, at in came]


@contextlib.contextmanager
def _listeners(api: Live) -> Iterator[Path]:
    """The file where they tell what came."""
    command = [sys.executable, "-m", "tests.bench.listeners", str(api.port), api.login["Authorization"]]
    with tempfile.NamedTemporaryFile() as out:
        process = subprocess.Popen([*command, str(LISTENERS)], cwd=ROOT, stdout=out)
        try:
            while not Path(out.name).read_text().startswith("ready"):
                time.sleep(0.05)
            yield Path(out.name)
        finally:
            process.terminate()
            process.wait(10)
