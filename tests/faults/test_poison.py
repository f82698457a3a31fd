"""An event that ends the engine each time: it is set aside after some tries, and all others are counted once."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing

import pytest
import redis

from feature_repo import keys
from feature_repo.settings import Settings
from flows.store import Embedded, Store, connect, create
from serving.supervisor import environment
from tests.faults.engines import opened, until_counted, until_shared
from tests.faults.rounds import ALL
from tests.flows import streams_made as made
from tests.flows.both_sides import VOCABULARY
from tests.flows.ground import ACCESS

PATIENCE = 60.0
USERS = [f"u{i}" for i in range(24)]  # of all partitions


class Engines:
    """One engine at a time, started again as soon as it died."""

    def __init__(self, settings: Settings, how: str) -> None:
        self.settings, self.how, self.died = settings, how, 0
        self.process = self._start()

    def look(self) -> None:
        if self.process.poll() is not None:
            self.died += 1
            self.process = self._start()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-m", "tests.faults.poisoned", self.how]
        with (self.settings.home / "engine.log").open("ab") as log:
            return subprocess.Popen(words, env=environment(self.settings), stderr=log)


@pytest.mark.parametrize("how", ["raise", "crash"] if ALL else ["crash"])
def test_the_rest_flows(valkey: Embedded, settings: Settings, how: str) -> None:
    """Before it, behind it and beside it, once; it stands among the dead, and is counted as quarantined."""
    with closing(connect(settings)) as client, closing(Engines(settings, how)) as engines:
        client.flushall()
        store = create(client, settings)
        post(client, store, 0, "u1", "u2")
        post(client, store, 10, "poison")
        post(client, store, 20, "u1", "u2", "u3", "u4", "u5")
        deadline = time.monotonic() + PATIENCE
        while made.counts(client, store).get("processed", 0) < 7 or not client.xlen(keys.DEAD):
            engines.look()
            assert time.monotonic() < deadline, (settings.home / "engine.log").read_text()[-2000:]
            time.sleep(0.02)
        died = engines.died
        post(client, store, 30, "u1")
        until(lambda: opened(client, "u1") == 3)
        assert made.counts(client, store) == {"accepted": 9, "processed": 8, "quarantined": 1}
        assert [opened(client, f"u{i}") for i in range(1, 6)] == [3, 2, 1, 1, 1]
        (dead,) = client.xrange(keys.DEAD)
        assert b"engines died over it" in dead[1][b"reason"]
        assert engines.died == died >= 4
        until(lambda: not client.exists(keys.TRIES, *map(keys.deaths, range(store.partitions))))


def test_two_engines_find_it_together(valkey: Embedded, settings: Settings) -> None:
    """Whoever has its partition dies of it and is started again; the other works on, and does not blur the trace."""
    with (
        closing(connect(settings)) as client,
        closing(Engines(settings, "crash")) as first,
        closing(Engines(settings, "crash")) as second,
    ):
        client.flushall()
        store = create(client, settings)
        until_shared(client, store, 2)
        post(client, store, 0, *USERS)
        until_counted(client, store)
        post(client, store, 1, "poison")
        at, deadline = 2, time.monotonic() + PATIENCE
        while not client.xlen(keys.DEAD):
            post(client, store, at, *USERS)
            at += 1
            first.look()
            second.look()
            assert time.monotonic() < deadline, (settings.home / "engine.log").read_text()[-2000:]
            time.sleep(0.2)
        until_counted(client, store)
        assert min(first.died, second.died) == 0
        assert max(first.died, second.died) >= 4
        assert {opened(client, user) for user in USERS} == {at - 1}
        counts = {"accepted": 1 + len(USERS) * (at - 1), "processed": len(USERS) * (at - 1), "quarantined": 1}
        assert made.counts(client, store) == counts


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def post(client: redis.Redis, store: Store, at: int, *users: str) -> None:
    """A document that each opens."""
    events = [
        made.Event(user, ACCESS, 0, made.START + at, made.START + at, 100 * at + i) for i, user in enumerate(users)
    ]
    made.post(client, store, VOCABULARY, events)
