"""kill -9 of anything at any moment, in a loop: nothing acknowledged is lost, nothing is counted twice.

`KILLS=200 make faults` goes on for longer. Judged by an oracle that shares no code with the engine.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest

from feature_repo.services import SERVICES
from feature_repo.settings import Settings
from serving.client import Closed, Door, Turned
from serving.metrics_read import values
from tests.faults.rounds import KILLS
from tests.flows.made_models import VERSION, trees
from tests.running_up import Up, door_of, eventually, start

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
VICTIMS = ("serving.app", "flows.alerting", "flows.lake", "flows.alert_drain", "valkey-server")
PEOPLE, WRITERS, BATCH = 40, 3, 20
LAST = 1_772_366_400_000  # 2026-03-01T12:00:00Z, after all events
SPAN = 20 * 86_400_000
COUNTED = {
    "Document Viewed": "doc_access_count_30d",
    "Document Downloaded": "doc_download_count_30d",
    "Calculator Used": "calculator_use_count_30d",
    "Comparable Viewed": "comparable_views_30d",
    "Session Ended": "session_count_30d",
}
OUTCOMES = ("processed", "duplicate", "unknown", "late", "quarantined")


class Sent(msgspec.Struct, frozen=True):
    """One event as a writer posted it; `id` makes it one, however often it is sent."""

    id: str
    user: str
    event: str
    at: int
    minutes: int

    def call(self) -> dict[str, Any]:
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(self.at / 1000)) + f".{self.at % 1000:03}Z"
        told = {"properties": {"minutes": self.minutes}} if self.event == "Session Ended" else {}
        return {
            "type": "track",
            "messageId": self.id,
            "userId": self.user,
            "event": self.event,
            "timestamp": when,
        } | told


# The log's clock stands at its end from the start, in every partition: messages are remembered for a day of it.
CLOCK = [Sent(f"clock-{i}", f"nobody-{i}", "Document Viewed", LAST, 0) for i in range(64)]


class Writer(threading.Thread):
    """Posts batches until told to end, each until it is acknowledged; now and then one again."""

    def __init__(self, door: Door, number: int, ending: threading.Event) -> None:
        super().__init__(daemon=True)
        self.door, self.ending = door, ending
        self.number = number
        self.dice = random.Random(number)
        self.acknowledged: list[Sent] = []

    def run(self) -> None:
        while not self.ending.is_set():
            batch = [self.made(len(self.acknowledged) + i) for i in range(BATCH)]
            again = self.dice.sample(self.acknowledged, 3) if self.acknowledged else []
            post(self.door, [*batch, *again])
            self.acknowledged += batch
        self.door.close()

    def made(self, number: int) -> Sent:
        name = self.dice.choice(list(COUNTED))
        user = f"u{self.dice.randrange(PEOPLE)}"
        return Sent(f"{self.number}-{number}", user, name, LAST - self.dice.randrange(SPAN), self.dice.randrange(90))


def post(door: Door, events: list[Sent]) -> None:
    body = msgspec.json.encode({"batch": [event.call() for event in events]})
    deadline = time.monotonic() + 60
    while True:
        with suppress(Closed, Turned):
            assert json.loads(door.post("/v1/batch", body, {}))["rejected"] == []
            return
        assert time.monotonic() < deadline, "the door stayed away for a minute"
        time.sleep(0.05)


def oracle(events: list[Sent]) -> dict[str, float]:
    """What one person's features must be: plain counting."""
    counts = Counter(event.event for event in events)
    minutes = sum(event.minutes for event in events if event.event == "Session Ended")
    return {feature: float(counts[name]) for name, feature in COUNTED.items()} | {
        "avg_session_minutes_30d": minutes / max(counts["Session Ended"], 1),
        "active_days_30d": float(len({event.at // 86_400_000 for event in events})),
        "event_type_diversity_30d": float(len(counts)),
    }


def kill_in_a_loop(up: Up, kills: int) -> Counter[str]:
    """Random victims at random moments, also while they start."""
    dice = random.Random(kills)
    killed: Counter[str] = Counter()
    while killed.total() < kills:
        time.sleep(dice.expovariate(2.0))
        victim = dice.choice(VICTIMS)
        pids = up.pids(victim)
        for pid in dice.sample(pids, min(len(pids), dice.choice([1, 1, 2]))):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                killed[victim] += 1
    return killed


def until_worked(door: Door) -> dict[str, float]:
    """Sums of the counters, once nothing waits; that they add up is checked at every look."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        text = eventually(door, "/metrics")
        sums = {name: sum(values(text, f"telltale_events_{name}_total")) for name in ("accepted", *OUTCOMES)}
        lag = sum(values(text, "telltale_events_lag"))
        assert sums["accepted"] == sum(sums[name] for name in OUTCOMES) + lag
        if not lag:
            return sums
        time.sleep(0.1)
    pytest.fail("the engine did not come to the end of the log")


@pytest.fixture
def up(tmp_path: Path, free_port: int) -> Iterator[Up]:
    """A whole Telltale of two engines, whose four models fire for everybody with more than five visits in 30 days."""
    for service in [service for service in SERVICES if service.alert]:
        trees(tmp_path / "models", service, "session_count_30d", 5.5, 0.5, VERSION)
    models = str(tmp_path / "models")
    settings = Settings(
        home=tmp_path, port=free_port, clock="log", partitions=4, engines=2, lake_seconds=1, models=models, withheld=0.0
    )
    with closing(start(settings)) as running:
        yield running


@pytest.fixture
def hunted(up: Up) -> tuple[Up, list[Sent]]:
    """A Telltale that went through the kills, and what it acknowledged meanwhile."""
    with closing(door_of(up)) as door:
        post(door, CLOCK)
        ending = threading.Event()
        writers = [Writer(door.again(), number, ending) for number in range(WRITERS)]
        for writer in writers:
            writer.start()
        killed = kill_in_a_loop(up, KILLS)
        ending.set()
        for writer in writers:
            writer.join(90)
    assert not any(writer.is_alive() for writer in writers)
    print(f"killed {dict(killed)}")
    return up, [event for writer in writers for event in writer.acknowledged]


def test_kills_lose_nothing_and_count_nothing_twice(hunted: tuple[Up, list[Sent]]) -> None:
    """Features, counters, alerts and the lake hold all that was acknowledged once, before and after a restart."""
    up, sent = hunted
    with closing(door_of(up)) as door:
        sums = until_worked(door)
        assert sums["processed"] == len(sent) + len(CLOCK)
        check_features(door, sent)
        check_alerts(door, sent)
        assert up.end() < 5.0
        with closing(start(up.settings)) as again:
            eventually(door, "/readyz")
            check_features(door, sent)
            check_alerts(door, sent)
            check_lake(again, sent)


def check_alerts(door: Door, sent: list[Sent]) -> None:
    """Everybody with enough visits has one alert of each type: the log's clock stood still, so no cool-down ended."""
    visits = Counter(event.user for event in sent if event.event == "Session Ended")
    expected = sorted((user, s.alert) for user, count in visits.items() if count > 5 for s in SERVICES if s.alert)
    deadline = time.monotonic() + 60
    while len(found := alerts(door)) < len(expected) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert sorted((alert["user"], alert["type"]) for alert in found) == expected


def alerts(door: Door) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        page = json.loads(eventually(door, f"/v1/alerts?limit=200{f'&cursor={cursor}' if cursor else ''}"))
        found += page["alerts"]
        cursor = page["next"]
    return found


def check_features(door: Door, sent: list[Sent]) -> None:
    for user in sorted({event.user for event in sent}):
        told = json.loads(eventually(door, f"/v1/users/{user}/features"))["features"]
        expected = oracle([event for event in sent if event.user == user])
        assert {name: told[name]["value"] for name in expected} == pytest.approx(expected), user


def check_lake(up: Up, sent: list[Sent]) -> None:
    """It is filled from the log a little later than the features, and by then whole."""
    expected = {event.id for event in [*sent, *CLOCK]}
    deadline = time.monotonic() + 60
    while (found := in_lake(up)) != expected:
        assert found <= expected
        assert time.monotonic() < deadline, f"{len(expected - found)} events of {len(expected)} are not in the lake"
        time.sleep(0.2)


def in_lake(up: Up) -> set[str]:
    files = str(up.settings.lake / "events" / "**" / "*.parquet")
    with duckdb.connect() as db, suppress(duckdb.IOException):  # no file yet, or one that was merged as we looked
        return {name for (name,) in db.execute("select message_id from read_parquet(?)", [files]).fetchall()}
    return set()
