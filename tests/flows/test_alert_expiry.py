"""Alerts of which nothing came end by themselves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
import redis

from feature_repo import keys
from feature_repo.settings import Settings
from flows import alert_expiry, alert_status
from flows.alert_expiry import BATCH, Expiry
from flows.alert_store import AlertStore, open_alerts
from flows.store import Store, create
from tests.flows.made_alerts import alert

DAY = 86_400_000
NOW = 40 * DAY


@pytest.fixture
def created(client: redis.Redis, settings: Settings) -> Store:
    """A store on event time, at NOW."""
    made = create(client, settings)
    client.xadd(keys.log(0), {"e": b""}, id=f"{NOW}-0")
    return made


@pytest.fixture
def store(tmp_path: Path) -> Iterator[AlertStore]:
    with closing(open_alerts(Settings(home=tmp_path))) as opened:
        yield opened


def statuses(store: AlertStore, *numbers: int) -> list[str]:
    found = [store.find(alert(n).id) for n in numbers]
    return [one.status for one in found if one]


def test_what_is_old_and_open_expires(
    client: redis.Redis, created: Store, store: AlertStore, settings: Settings
) -> None:
    """By the log's time, withheld ones too; what was scored within the days, and what has ended, stays."""
    store.insert([alert(n, scored_at=10 * DAY - 1, status=s) for n, s in enumerate(alert_status.STATUSES)])
    store.insert([alert(7, scored_at=10 * DAY), alert(8, scored_at=5, withheld=True)])
    assert Expiry(client, store, settings).expire(created) == 4
    assert statuses(store, *range(9)) == [
        *("EXPIRED", "EXPIRED", "EXPIRED", "CONVERTED", "DISMISSED", "EXPIRED"),
        *("PENDING", "EXPIRED"),
    ]
    with store.engine.connect() as connection:
        (step,) = alert_status.history(connection, alert(0).id)
    assert (step.who, step.at, step.why) == ("expiry", NOW, "nothing came of it in 30 days")


def test_more_than_a_batch_expires_and_is_told(
    client: redis.Redis, created: Store, store: AlertStore, settings: Settings
) -> None:
    """All that are due, in one look; listeners are told once."""
    store.insert([alert(n) for n in range(BATCH + 1)])
    with client.pubsub() as heard:
        heard.subscribe(keys.ALERTS_MOVED)
        assert Expiry(client, store, settings).expire(created) == BATCH + 1
        told = [m for m in (heard.get_message(timeout=1) for _ in range(3)) if m and m["type"] == "message"]
    assert len(told) == 1


def test_it_looks_by_itself_and_with_no_days_never(
    client: redis.Redis, created: Store, store: AlertStore, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On its own thread, again and again; `TELLTALE_ALERT_DAYS=0` switches it off."""
    monkeypatch.setattr(alert_expiry, "EVERY_LOG_S", 0.01)
    store.insert([alert(1)])
    never = Expiry(client, store, msgspec.structs.replace(settings, alert_days=0))
    never.start()
    time.sleep(0.1)
    never.stop()
    assert statuses(store, 1) == ["PENDING"]
    ever = Expiry(client, store, settings)
    ever.start()
    due = time.monotonic() + 5
    while statuses(store, 1) != ["EXPIRED"] and time.monotonic() < due:
        time.sleep(0.01)
    ever.stop()
    assert statuses(store, 1) == ["EXPIRED"]


def test_what_is_due_is_found_by_an_index(store: AlertStore) -> None:
    """However many alerts there are."""
    query = "SELECT id FROM alerts WHERE status = 'PENDING' AND scored_at < 5 ORDER BY scored_at LIMIT 9"
    with store.engine.connect() as connection:
        plan = " ".join(row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}"))
    assert "alerts_by_age (status=? AND scored_at<?)" in plan
    assert "TEMP B-TREE" not in plan
