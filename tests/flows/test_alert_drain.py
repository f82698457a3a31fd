"""The drain, as a process of its own: each alert in SQL once, whatever is killed or down."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import redis

from feature_repo import keys
from feature_repo.settings import Settings
from flows.alert import encode
from flows.alert_store import AlertStore, Filter, open_alerts
from tests.flows.made_alerts import alert

PATIENCE = 60.0
SOON = 2.0  # seconds, on a machine that is busy with other tests


class Drain:
    """Starts, kills and stops the process."""

    def __init__(self, settings: Settings) -> None:
        no_models = settings.home / "models"  # reasons have tests of their own; without models it starts at once
        no_models.mkdir()
        given = {"HOME": str(settings.home), "REDIS_URL": settings.redis_url, "MODELS": str(no_models)}
        self.environ = os.environ | {f"TELLTALE_{name}": value for name, value in given.items()}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "flows.alert_drain"]
        self.process = subprocess.Popen(command, env=self.environ, stderr=subprocess.DEVNULL)

    def end(self, number: int) -> float:
        """Seconds that it took to end."""
        assert self.process is not None
        began = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(PATIENCE)
        return time.monotonic() - began


@pytest.fixture
def drain(settings: Settings) -> Iterator[Drain]:
    drain = Drain(settings)
    yield drain
    if drain.process is not None and drain.process.poll() is None:
        drain.end(signal.SIGKILL)


@pytest.fixture
def store(settings: Settings) -> Iterator[AlertStore]:
    opened = open_alerts(settings)
    yield opened
    opened.close()


def add(client: redis.Redis, *numbers: int) -> None:
    for n in numbers:
        client.xadd(keys.ALERTS, {"a": encode(alert(n))})


def soon(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def users(store: AlertStore) -> list[str]:
    return [s.alert.user for s in store.newest(Filter(), 10_000)]


def test_an_alert_arrives_with_its_reasons_and_is_announced(
    client: redis.Redis, store: AlertStore, drain: Drain
) -> None:
    """It leaves the stream, stands in SQL with reasons and a time, and its number is published."""
    listener = client.pubsub(ignore_subscribe_messages=True)
    listener.subscribe(keys.ALERTS_STORED)
    add(client, 1)
    drain.start()
    soon(lambda: bool(users(store)) and client.xlen(keys.ALERTS) == 0)
    stored = store.newest(Filter(), 1)[0]
    assert any("keeps checking what the home is worth" in reason for reason in stored.alert.reasons)
    assert abs(stored.alert.stored_at - time.time() * 1000) < 60_000
    soon(lambda: (listener.get_message(timeout=1) or {}).get("data") == str(stored.seq).encode())
    listener.close()


def test_killed_in_a_loop_each_is_stored_once(client: redis.Redis, store: AlertStore, drain: Drain) -> None:
    """Kill -9 at random moments while alerts come in: none is lost, none is doubled, the stream ends empty."""
    moments, n = random.Random(7), 0
    for _ in range(10):
        drain.start()
        before = store.head()
        for _ in range(moments.randrange(3)):
            add(client, *range(n, n + 40))
            n += 40
        soon(lambda: store.head() > before or client.xlen(keys.ALERTS) == 0)  # noqa: B023  # used at once
        time.sleep(moments.random() * 0.01)
        drain.end(signal.SIGKILL)
    drain.start()
    soon(lambda: client.xlen(keys.ALERTS) == 0)
    assert sorted(users(store)) == sorted(f"u{i}" for i in range(n))


def test_killed_between_commit_and_removal(client: redis.Redis, store: AlertStore, drain: Drain) -> None:
    """What is in SQL and still in the stream stays as it was stored, leaves the stream, and is announced."""
    listener = client.pubsub(ignore_subscribe_messages=True)
    listener.subscribe(keys.ALERTS_STORED)
    head = store.insert([alert(1, stored_at=5)])
    add(client, 1)
    drain.start()
    soon(lambda: client.xlen(keys.ALERTS) == 0)
    assert [s.alert.stored_at for s in store.newest(Filter(), 10)] == [5]
    soon(lambda: (listener.get_message(timeout=1) or {}).get("data") == str(head).encode())
    listener.close()


def test_sql_down_loses_nothing(client: redis.Redis, settings: Settings, store: AlertStore, drain: Drain) -> None:
    """While the database cannot be written alerts wait in the stream; then they are stored."""
    drain.start()
    add(client, 1)
    soon(lambda: client.xlen(keys.ALERTS) == 0)
    held = sqlite3.connect(settings.home / "telltale.db", isolation_level=None)
    held.execute("BEGIN EXCLUSIVE")
    add(client, 2)
    time.sleep(1.5)  # longer than SQLite's own wait for a lock
    assert client.xlen(keys.ALERTS) == 1
    held.execute("ROLLBACK")
    held.close()
    soon(lambda: client.xlen(keys.ALERTS) == 0)
    assert users(store) == ["u2", "u1"]


def test_stops_soon_while_sql_is_down(client: redis.Redis, settings: Settings, store: AlertStore, drain: Drain) -> None:
    """Waiting for the database does not hold up the end, and the alert goes on waiting."""
    drain.start()
    add(client, 1)
    soon(lambda: bool(users(store)))
    held = sqlite3.connect(settings.home / "telltale.db", isolation_level=None)
    held.execute("BEGIN EXCLUSIVE")
    add(client, 2)
    time.sleep(0.3)
    assert drain.end(signal.SIGTERM) < SOON
    assert client.xlen(keys.ALERTS) == 1
    held.close()


def test_stops_soon(client: redis.Redis, store: AlertStore, drain: Drain) -> None:
    """SIGTERM ends it soon and cleanly, with nothing half done."""
    drain.start()
    add(client, 1)
    soon(lambda: bool(users(store)))
    assert drain.end(signal.SIGTERM) < SOON
    assert drain.process is not None
    assert drain.process.returncode == 0


def test_what_cannot_be_read_is_set_aside(client: redis.Redis, store: AlertStore, drain: Drain) -> None:
    """A damaged entry goes to the dead list, and the alerts beside it are stored."""
    client.xadd(keys.ALERTS, {"a": b'{"id": 7'})
    client.xadd(keys.ALERTS, {"b": b"no alert at all"})
    add(client, 1)
    drain.start()
    soon(lambda: client.xlen(keys.ALERTS) == 0)
    assert users(store) == ["u1"]
    assert [fields[b"a"] for _, fields in cast(list[Any], client.xrange(keys.DEAD))] == [b'{"id": 7', b""]


def test_without_a_store_it_says_so(tmp_path: Path) -> None:
    """No Redis: one line that names what to do, exit code 1, no traceback."""
    environ = os.environ | {"TELLTALE_HOME": str(tmp_path), "TELLTALE_REDIS_URL": ""}
    ended = subprocess.run(
        [sys.executable, "-m", "flows.alert_drain"], env=environ, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert "telltale up" in ended.stderr
    assert "Traceback" not in ended.stderr
