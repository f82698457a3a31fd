"""Fault: five hundred clients ask for the live stream of alerts and read nothing; others are told all that comes."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from feature_repo import keys
from flows.alert import alert_id
from flows.alert_store import open_alerts
from flows.store import connect
from serving.client import Door
from tests.faults.crowds import LOGIN
from tests.faults.found import Found
from tests.faults.steady import Watched, whole
from tests.flows.made_alerts import alert
from tests.live import KEY, ORGANISATION, ROOT
from tests.running_up import Up

UNREAD, READING, LATE = 500, 5, 5
LEAST = 2_500  # alerts: more than the API keeps in memory
ALERTS_A_SECOND = 50  # that half a thousand unread streams let through on two cores
PIECE = 50  # alerts that come at once
PAUSE = 0.1  # seconds between two pieces
PATIENCE = 60.0
MB_A_CLIENT, MB = (
    0.5,
    100.0,
)  # that the API may grow by: a page of alerts and buffers a client, and what is kept for all
STREAM = "/v1/alerts/stream?after=0"


class Reads(threading.Thread):
    """A client of the stream; with `late`, it begins to read once that is set, on the connection that it has."""

    def __init__(self, up: Up, count: int, late: threading.Event | None = None) -> None:
        super().__init__(daemon=True)
        self._door, self._count, self._late = Door(up.settings, KEY, timeout=PATIENCE), count, late
        self.seen: list[str] = []

    def run(self) -> None:
        for _, told in self._door.events(STREAM):
            self.seen.append(told["user"])
            if self._late is not None:
                self._late.wait(PATIENCE)
            if len(self.seen) == self._count:
                return

    def check(self, expected: Sequence[str]) -> None:
        """Raises AssertionError unless it was told each alert once, in order."""
        self.join(PATIENCE)
        got = f"{len(self.seen)} of {len(expected)}, {len(set(self.seen))} different"
        assert self.seen == list(expected), f"expected each alert once and in order, got {got}"


def run(budget: float, dice: random.Random, home: Path) -> Found:
    """As many alerts as there is time for, LEAST at least, which takes a minute."""
    count = int(min(20_000, max(LEAST, (budget - 20) * ALERTS_A_SECOND)))
    with closing(whole(home)) as up, _unread(up):
        (pid,) = up.pids("serving.app")
        late = threading.Event()
        readers = [Reads(up, count) for _ in range(READING)] + [Reads(up, count, late) for _ in range(LATE)]
        watched = Watched(pid)
        for thread in (*readers, watched):
            thread.start()
        users = _come(up, count)
        for reader in readers[:READING]:
            reader.check(users)
        late.set()
        for reader in readers[READING:]:
            reader.check(users)
        after = watched.end()
    grown, most = watched.most.mb - watched.before.mb, MB + MB_A_CLIENT * (UNREAD + READING + LATE)
    assert grown < most, f"expected the API to grow by less than {most:.0f} MB, got {grown:.0f}"
    notes: dict[str, float | str] = {
        "unread": float(UNREAD),
        "grown_mb": grown,
        "after_mb": after.mb - watched.before.mb,
    }
    return Found(runs=1, events=count, notes=notes)


@contextmanager
def _unread(up: Up) -> Iterator[None]:
    words = [str(up.settings.port), LOGIN, "100000", f"stream={UNREAD}"]
    command = [sys.executable, "-m", "tests.faults.hostile_clients", *words]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as crowd:
        try:
            assert crowd.stdout is not None
            assert crowd.stdout.readline() == b"ready\n"
            yield
        finally:
            crowd.kill()


def _come(up: Up, count: int) -> list[str]:
    """Alerts come as the drain lets them come; whose they are, in order."""
    with closing(open_alerts(up.settings)) as store, closing(connect(up.settings)) as client:
        for first in range(0, count, PIECE):
            numbers = range(first, min(first + PIECE, count))
            made = [alert(n, organisation=ORGANISATION, id=_id(n)) for n in numbers]
            client.publish(keys.ALERTS_STORED, store.insert(made))
            time.sleep(PAUSE)
    return [f"u{n}" for n in range(count)]


def _id(n: int) -> str:
    return alert_id(ORGANISATION, f"u{n}", "LIKELY_TO_SELL", json.dumps(n))
