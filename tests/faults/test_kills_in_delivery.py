"""kill -9 of the process that delivers between any two steps: each alert arrives with the same bytes, or is dead."""

from __future__ import annotations

import http.server
import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa

from feature_repo.settings import Settings
from flows import delivery_figures
from flows.alert_store import AlertStore
from flows.delivery import wall_ms
from tests.faults.dying_delivery import STEPS
from tests.flows.delivered import POSTGRESQL, endpoint, stored
from tests.flows.made_alerts import alert
from tests.live import ROOT, environment

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kills processes")
KILLS = int(os.environ.get("KILLS", "12"))
PATIENCE = 60.0
GOOD, GONE = ("/a", "/b"), "/gone"


class Receiver(http.server.ThreadingHTTPServer):
    """Notes what came, by path and id; `/gone` answers 410, each seventh request elsewhere 500."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.came: dict[tuple[str, str], list[bytes]] = defaultdict(list)
        self.asked = 0
        self.lock = threading.Lock()

    def handle_error(self, request: object, client_address: object) -> None:
        """Whoever asked was killed."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        with self.server.lock:
            self.server.asked += 1
            refused = self.server.asked % 7 == 0
            self.server.came[self.path, self.headers["webhook-id"]].append(body)
        self.send_response(410 if self.path == GONE else 500 if refused else 200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class Lives:
    """Lives of the process that delivers, one after the other."""

    def __init__(self, settings: Settings) -> None:
        self.log = settings.home / "delivery.log"
        with self.log.open("ab") as err:
            self.nursery = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.dying_delivery"],
                env=environment(settings),
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=err,
                bufsize=0,
            )

    def begin(self, step: str = "", n: int = 1) -> int:
        """Its process id."""
        assert self.nursery.stdin
        self.nursery.stdin.write(f"{step}\t{n}\n".encode())
        return self._line()

    def ended(self) -> int:
        """Its exit code, once there is one."""
        return self._line()

    def close(self) -> None:
        self.nursery.kill()
        self.nursery.communicate()

    def _line(self) -> int:
        assert self.nursery.stdout
        assert select.select([self.nursery.stdout], [], [], PATIENCE)[0], self.log.read_text()[-2_000:]
        return int(self.nursery.stdout.readline())


class Ground(msgspec.Struct):
    settings: Settings
    store: AlertStore
    receiver: Receiver
    lives: Lives
    stored: int = 0

    def more(self, n: int) -> None:
        now = wall_ms()
        self.store.insert([alert(i, stored_at=now) for i in range(self.stored, self.stored + n)])
        self.stored += n

    def hasten(self) -> None:
        """What waits for its next attempt is due: a person's `retry`, without the tries given back."""
        with self.store.writing() as sql:
            sql.execute(sa.text("UPDATE deliveries SET due_at = 0 WHERE state = 'WAITING'"))
            hooks = "SELECT DISTINCT channel, target FROM deliveries WHERE state = 'WAITING'"
            sql.execute(sa.text(f"INSERT INTO delivery_nudges (channel, target) {hooks}"))

    def finish(self) -> None:
        """One whole life, until nothing waits."""
        process, deadline = self.lives.begin(), time.monotonic() + PATIENCE
        while not self._quiet():
            assert time.monotonic() < deadline, self.lives.log.read_text()[-2_000:]
            self.hasten()
            time.sleep(0.1)
        os.kill(process, signal.SIGTERM)
        assert self.lives.ended() == 0

    def _quiet(self) -> bool:
        with self.store.engine.connect() as sql:
            figures = delivery_figures.figures(sql)
            routed = sql.execute(sa.text("SELECT routed FROM delivery_sender")).scalar()
        return not (figures.waiting or figures.active) and routed == self.store.head()

    def judge(self) -> None:
        """Each alert at each endpoint with one body, or dead; and the counts are those of the rows."""
        with self.store.engine.connect() as sql:
            rows = sql.execute(
                sa.text("SELECT alert_id, target, state FROM deliveries WHERE channel = 'webhook'")
            ).all()
            counted = sql.execute(sa.text("SELECT channel, state, count(*) FROM deliveries GROUP BY 1, 2")).all()
            told = sql.execute(sa.text("SELECT channel, what, n FROM delivery_counts WHERE what <> 'FAILED'")).all()
            moved = sql.execute(sa.text("SELECT count(*) FROM alert_changes WHERE to_status = 'DELIVERED'")).scalar()
        states = {(alert_id, target): state for alert_id, target, state in rows}
        assert len(states) == len(rows)
        for n in range(self.stored):
            id_ = alert(n).id
            for hook, path in enumerate(GOOD):
                came = self.receiver.came[path, f"msg_{id_}"]
                assert states[id_, f"wh_{hook}"] == "DONE"
                assert len(set(came)) == 1
            assert states.get((id_, "wh_9"), "DEAD") == "DEAD"  # planned no more once it is known to be gone
        assert sorted(tuple(row) for row in counted) == sorted(tuple(row) for row in told if row[2])
        assert moved == self.stored


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    settings = Settings(home=tmp_path, webhook_allow="127.0.0.0/8", database_url=POSTGRESQL)
    with stored(tmp_path) as store, receiver() as ends:
        for n, path in enumerate(GOOD):
            endpoint(store.engine, f"http://127.0.0.1:{ends.server_port}{path}", n)
        endpoint(store.engine, f"http://127.0.0.1:{ends.server_port}{GONE}", 9)
        lives = Lives(settings)
        yield Ground(settings, store, ends, lives)
        lives.close()


def test_killed_between_any_two_steps(ground: Ground) -> None:
    """One life after the other ends at a step of its own; each time alerts come in, and are planned."""
    for step in STEPS:
        ground.more(20)
        ground.hasten()
        ground.lives.begin(step, 1 if "tak" in step else 2)
        assert ground.lives.ended() == -signal.SIGKILL, step
    ground.finish()
    ground.judge()


def test_killed_at_any_moment(ground: Ground) -> None:
    """By somebody else, while much is under way."""
    rng = random.Random(3)
    for _ in range(KILLS):
        ground.more(rng.randrange(10, 60))
        ground.hasten()
        process = ground.lives.begin()
        time.sleep(rng.uniform(0.0, 0.3))
        os.kill(process, signal.SIGKILL)
        assert ground.lives.ended() == -signal.SIGKILL
    ground.finish()
    ground.judge()
