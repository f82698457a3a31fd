"""A person's signals over HTTP, from the real door through the real engine, with the events that made them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pytest

from feature_repo.settings import Settings
from feature_repo.vocabulary import Vocabulary
from flows.embedded import Embedded
from flows.lake_read import LakeReader
from flows.store import connect, open_store
from tests.live import ROOT, Live, environment, live

PATIENCE = 60.0
FILED = "SELECT 1 FROM events WHERE name = 'Document Shared'"
NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def api(empty_valkey: Embedded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """The API, the engine and the lake, over a store that runs on event time."""
    home = tmp_path_factory.mktemp("signals")
    settings = Settings(
        home=home, redis_url=f"unix://{empty_valkey.where.socket}", partitions=4, clock="log", lake_seconds=1
    )
    with live(settings) as running:
        command = ([sys.executable, "-m", module] for module in ("flows.alerting", "flows.lake"))
        flows = [subprocess.Popen(c, env=environment(settings), cwd=ROOT) for c in command]
        yield running
        for process in flows:
            process.terminate()
        assert [process.wait(10) for process in flows] == [0, 0]


def track(user: str, event: str, at: datetime, message: str, **properties: Any) -> dict[str, Any]:
    call = {"type": "track", "userId": user, "event": event, "messageId": message, "timestamp": at.isoformat()}
    return {**call, "properties": properties}


def post(api: Live, *calls: dict[str, Any]) -> None:
    answer = api.post("/v1/batch", {"batch": list(calls)})
    assert answer.json["accepted"] == len(calls)


def signals(api: Live, user: str, query: str = "") -> dict[str, Any]:
    answer = api.ask("GET", f"/v1/users/{quote(user, safe='')}/signals{query}")
    return {s["name"]: s for s in answer.json["signals"]} if answer.status == 200 else {}


def soon(found: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (value := found()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
    return value


def filed(api: Live) -> pa.Table:
    with connect(api.settings) as client:
        return LakeReader(api.settings.lake, Vocabulary(), open_store(client)).sql(FILED)


def test_the_events_are_those_that_the_counts_count(api: Live) -> None:
    """Strength and counts come from the stream's state; the events are of the right kind, tag and window."""
    day = timedelta(days=1)
    post(
        api,
        track("ann", "Home Value Viewed", NOW - 40 * day, "old"),
        track("ann", "Home Value Viewed", NOW - 2 * day, "one"),
        track("ann", "Property Value Checked", NOW - day, "two"),
        track("ann", "Email Clicked", NOW - day, "other", topic="market"),
        track("ann", "Email Clicked", NOW, "refi", topic="refinance"),
        track("ann", "No Such Event", NOW, "unknown"),
        track("bob", "Home Value Viewed", NOW, "bob's"),
    )
    told = soon(lambda: (s := signals(api, "ann")) and s["refinance_interest"]["counts"]["clicks_90d"] == 1 and s)
    checks = told["value_checks"]
    assert checks["counts"] == {"last_30d": 2.0, "last_90d": 3.0}
    assert 0 < checks["strength"] < 1
    assert [e["messageId"] for e in checks["events"]] == ["two", "one", "old"]
    assert checks["events"][0] == {
        "messageId": "two",
        "event": "property_value_check",
        "name": "Property Value Checked",
        "ts": "2026-03-01T12:00:00Z",
    }
    assert [e["messageId"] for e in told["refinance_interest"]["events"]] == ["refi"]
    assert {e["messageId"] for e in told["high_email_engagement"]["events"]} == {"refi", "other"}
    assert told["document_sharing"]["events"] == []
    assert told["document_sharing"]["strength"] == 0


def test_newest_first_and_bounded(api: Live) -> None:
    """At most as many events as asked for, the newest, a resent one once, before and after they are in files."""
    calls = [track("cat", "Document Shared", NOW + timedelta(minutes=i), f"m{i}") for i in range(30)]
    post(api, *calls)
    post(api, calls[29])
    soon(lambda: (s := signals(api, "cat")) and s["document_sharing"]["counts"]["last_30d"] == 30)
    for _ in range(2):
        shown = signals(api, "cat", "?events=3")["document_sharing"]["events"]
        assert [e["messageId"] for e in shown] == ["m29", "m28", "m27"]
        soon(lambda: len(filed(api)) == 30)
    assert signals(api, "cat", "?events=0")["document_sharing"]["events"] == []


def test_what_was_done_before_the_name_was_known(api: Live) -> None:
    """The events of the anonymous person whom a user turned out to be are among the user's."""
    before = track("", "Document Downloaded", NOW, "before")
    before = {k: v for k, v in before.items() if k != "userId"} | {"anonymousId": "a-1"}
    post(api, before)
    soon(lambda: signals(api, "anon:a-1"))
    at = (NOW + timedelta(minutes=1)).isoformat()
    post(api, {"type": "identify", "anonymousId": "a-1", "userId": "dan", "messageId": "i", "timestamp": at})
    downloads = soon(lambda: (s := signals(api, "dan")) and (d := s["document_download_pattern"])["strength"] > 0 and d)
    assert downloads["counts"]["last_30d"] == 1
    assert [e["messageId"] for e in downloads["events"]] == ["before"]
    assert signals(api, "anon:a-1")["document_download_pattern"]["counts"]["last_30d"] == 0


def test_nobody(api: Live) -> None:
    """404 as a problem for somebody of whom nothing is known; 400 for a wrong number of events."""
    assert api.ask("GET", "/v1/users/nobody/signals").status == 404
    answer = api.ask("GET", "/v1/users/nobody/signals?events=1000")
    assert (answer.status, answer.json["field"]) == (400, "events")
