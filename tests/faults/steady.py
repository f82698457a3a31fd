"""A steady good client beside whatever goes wrong, and what became of its events by the API's own account."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path

import msgspec
import numpy as np

from feature_repo import keys
from feature_repo.settings import Settings
from flows.store import connect
from serving.client import Closed, Door, Turned
from serving.metrics_read import read_meters
from tests.live import KEY, ORGANISATION, free_port
from tests.running_up import Up, door_of, eventually, start

PEOPLE, BATCH = 50, 20
PATIENCE = 90.0  # seconds in which all has to be well again
FEATURE = "doc_access_count_30d"


class Steady(threading.Thread):
    """Posts a batch each `period` seconds until it is ended, each until it is stored. `padding`: bytes of an event."""

    def __init__(self, settings: Settings, seed: int, period: float = 0.05, padding: int = 0) -> None:
        super().__init__(daemon=True)
        self._door, self._dice, self._period = Door(settings, KEY, timeout=30), random.Random(seed), period
        self._seed, self._padding, self._ending = seed, padding, threading.Event()
        self.acknowledged: Counter[str] = Counter()  # events by user
        self.took: list[float] = []  # seconds of each batch, all its tries together
        self.refused: Counter[int] = Counter()  # answers by status; 0: none
        self.hasty = 0  # 503 without Retry-After
        self.failed: BaseException | None = None

    def run(self) -> None:
        try:
            with closing(self._door):
                while not self._ending.wait(self._period):
                    self._post()
        except AssertionError as error:
            self.failed = error

    def end(self) -> None:
        self._ending.set()
        self.join(PATIENCE)
        assert not self.is_alive(), "expected every batch to be acknowledged in the end"
        if self.failed:
            raise self.failed

    def _post(self) -> None:
        users = [f"good-{self._dice.randrange(PEOPLE)}" for _ in range(BATCH)]
        number = self.acknowledged.total()
        more = {"properties": {"padding": self._dice.randbytes(self._padding // 2).hex()}} if self._padding else {}
        shared = {"type": "track", "event": "Document Viewed", **more}
        calls = [{**shared, "userId": user, "messageId": f"{self._seed}-{number + i}"} for i, user in enumerate(users)]
        began = time.perf_counter()
        self._until_stored(msgspec.json.encode({"batch": calls}))
        self.took.append(time.perf_counter() - began)
        self.acknowledged.update(users)

    def _until_stored(self, body: bytes) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            answer = self._answer(body)
            if answer == 200:
                return
            self.refused[answer] += 1
            assert answer in {0, 503}, f"expected 200 or 503 for a good batch, got {answer}"
            assert time.monotonic() < deadline, f"expected a batch to be acknowledged within {PATIENCE:g} s"
            time.sleep(0.1)

    def _answer(self, body: bytes) -> int:
        """The status; 0 where there was no answer."""
        try:
            rejected = json.loads(self._door.post("/v1/batch", body, {}))["rejected"]
        except Turned as answer:
            self.hasty += answer.status == 503 and not answer.retry_after
            return answer.status
        except Closed:
            return 0
        assert rejected == [], f"expected all of a good batch to be stored, got {rejected}"
        return 200

    def milliseconds(self, percent: float) -> float:
        return float(np.percentile(self.took, percent) * 1000) if self.took else 0.0


def whole(home: Path, **changes: object) -> Up:
    """Everything, running, with our key."""
    plain = Settings(home=home, port=free_port(), partitions=2, lake_seconds=1, withheld=0.0)
    up = start(msgspec.structs.replace(plain, **changes))
    with closing(door_of(up)), closing(connect(up.settings)) as client:
        client.hset(keys.KEYS, KEY, ORGANISATION)
        client.sadd(keys.ADMINS, KEY)
    return up


class Account(msgspec.Struct):
    """What the API says of the good events, beside what it acknowledged."""

    lost: int
    doubled: int
    phantom: int  # events counted that nobody who was acknowledged has sent
    recovery: float  # seconds until the engine had worked all


def account(settings: Settings, *good: Steady) -> Account:
    """Once the engine has come to the end."""
    sent: Counter[str] = sum((one.acknowledged for one in good), Counter())
    began = time.monotonic()
    with closing(Door(settings, KEY)) as door:
        accepted = _worked(door)
        recovery = time.monotonic() - began
        counted = {user: _counted(door, user) for user in sent}
    return Account(
        sum(max(0, sent[user] - counted[user]) for user in sent),
        sum(max(0, counted[user] - sent[user]) for user in sent),
        max(0, accepted - sent.total()),
        recovery,
    )


def _worked(door: Door) -> int:
    """How many were accepted, once nothing waits."""
    deadline = time.monotonic() + PATIENCE
    while (meters := read_meters(eventually(door, "/metrics"))).lag:
        assert time.monotonic() < deadline, f"expected the engine to come to the end, {meters.lag} events wait"
        time.sleep(0.05)
    return meters.accepted


def _counted(door: Door, user: str) -> int:
    return int(json.loads(eventually(door, f"/v1/users/{user}/features"))["features"][FEATURE]["value"])


class Weight(msgspec.Struct):
    """What a process holds."""

    mb: float
    files: int


def weight(pid: int) -> Weight:
    """Nothing of a process that has ended."""
    with suppress(OSError):
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
        kilobytes = next((int(line.split()[1]) for line in status if line.startswith("VmRSS")), 0)
        return Weight(kilobytes / 1024, len(list(Path(f"/proc/{pid}/fd").iterdir())))
    return Weight(0.0, 0)


class Watched(threading.Thread):
    """Weighs a process again and again; `most` is what it weighed at most."""

    def __init__(self, pid: int, period: float = 0.25) -> None:
        super().__init__(daemon=True)
        self._pid, self._period, self._ending = pid, period, threading.Event()
        self.before = self.most = weight(pid)

    def run(self) -> None:
        while not self._ending.wait(self._period):
            now = weight(self._pid)
            self.most = Weight(max(now.mb, self.most.mb), max(now.files, self.most.files))

    def end(self) -> Weight:
        """What it weighs now."""
        self._ending.set()
        self.join()
        return weight(self._pid)
