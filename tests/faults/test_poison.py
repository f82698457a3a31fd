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
from tests.faults.engines import opened
from tests.faults.rounds import ALL
from tests.flows import streams_made as made
from tests.flows.both_sides import VOCABULARY
from tests.flows.ground import ACCESS

PATIENCE = 60.0


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
