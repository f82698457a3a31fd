"""A whole Telltale as its users run it, with clients that write, a webhook that listens, and a tap on its log."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import redis

from feature_repo import keys
from feature_repo.settings import Settings
from flows.resp import StoreError
from flows.state import identity
from flows.store import connect, open_store
from serving.client import Closed, Door, Turned
from serving.supervisor import environment
from tests.faults.calls import Call, Calls
from tests.faults.ledger import Client, Ledger, Writer
from tests.faults.tap import Tap
from tests.faults.trouble import Trouble
from tests.flows import streams_made as made
from tests.flows.both_sides import VOCABULARY
from tests.flows.made_models import logistic
from tests.live import free_port
from tests.running_up import Up, eventually

KEY, ORGANISATION = "key-of-the-site", "org"
SELL = next(s for s in VOCABULARY.services if s.name == "likely_to_sell")
CHECKS = 8  # value checks within 30 days that make the model fire
PARTITIONS, ENGINES, CACHED = 4, 2, 64  # few in memory, so that people come and go
WRITERS, PAUSE_S = 3, 0.05
NEWCOMERS = 30  # calls of a writer until somebody new comes
START_S = 60.0


class Site:
    """Runs from `start` to `close` in the directory `place`, with its home in `place/home`.

    `words`: arguments of `upped.py`. One seed drives all that its clients do.
    """

    def __init__(
        self, place: Path, seed: int, trouble: Trouble | None = None, words: Sequence[str] = (), **more: Any
    ) -> None:
        home, self._place = place / "home", place
        home.mkdir(parents=True, exist_ok=True)
        models = place / "models"
        if not models.exists():
            logistic(models, SELL, "value_check_count_30d", slope=1.0, middle=CHECKS - 1, threshold=0.7)
        plain = Settings(
            home=home, port=free_port(), partitions=PARTITIONS, cache_users=CACHED, models=str(models),
            lake_seconds=1, withheld=0.0, webhook_allow="127.0.0.0/8", engines=ENGINES,
        )  # fmt: skip
        self.settings = msgspec.structs.replace(plain, **more)
        self.trouble, self._words, self._seed = trouble, words, seed
        self.ledger = Ledger()
        self.dice = random.Random(seed)
        self._writers: list[Writer] = []
        self._ending = threading.Event()
        self._probes = itertools.count(1)
        self.up: Up | None = None

    # -- life

    def start(self) -> None:
        """Everything, once it is ready, with a key, a tap on its log and a webhook that its alerts go to."""
        self.begin()
        self.until_ready()
        self._listen()

    def begin(self) -> None:
        """The processes, without waiting for them."""
        out = (self._place / "out").open("ab")
        environ = environment(self.settings) | (self.trouble.environ if self.trouble else {})
        command = [sys.executable, "-m", "tests.faults.upped", *self._words]
        process = subprocess.Popen(command, env=environ, stdout=out, stderr=out)
        self.up = Up(self.settings, process, out)

    def _listen(self) -> None:
        """A receiver of webhooks, and the tap."""
        heard = (self._place / "delivered").open("ab")
        command = [sys.executable, "-m", "tests.bench.receiver"]
        self._receiver = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self._receiver.stdout is not None
        port = int(self._receiver.stdout.readline())
        self._hearing = threading.Thread(target=self._hear, args=(heard,), daemon=True)
        self._hearing.start()
        self.tap = Tap(self.settings, PARTITIONS)
        self.tap.start()
        body = msgspec.json.encode({"url": f"http://127.0.0.1:{port}/alerts"})
        with closing(self.door()) as door:
            door.post("/v1/webhooks", body, {})

    def _hear(self, into: Any) -> None:
        assert self._receiver.stdout is not None
        for line in self._receiver.stdout:
            into.write(line.encode())
            into.flush()

    def until_ready(self) -> None:
        with closing(self.door()) as door:
            eventually(door, "/healthz", START_S)
            with closing(connect(self.settings)) as client:
                client.hset(keys.KEYS, KEY, ORGANISATION)
                client.sadd(keys.ADMINS, KEY)
                self._store = open_store(client)
            eventually(door, "/readyz", START_S)

    def end(self) -> None:
        """Ctrl-C, and nothing is left."""
        if self.up is not None:
            self.up.close()
            self.up = None

    def close(self) -> None:
        self.rest()
        if hasattr(self, "tap"):
            self.tap.end()
            self._receiver.kill()
            self._receiver.wait()
        self.end()

    # -- clients

    def door(self) -> Door:
        return Door(self.settings, KEY)

    def write(self, writers: int = WRITERS, pause: float = PAUSE_S) -> None:
        """Has clients write until `rest`."""
        self._ending.clear()
        for _ in range(writers):
            dice = random.Random(self.dice.random())
            name = f"w{self._seed}-{self.dice.getrandbits(40):x}"
            client = Client(self.door(), self.ledger, dice)
            self._writers.append(Writer(client, Calls(dice, NEWCOMERS), name, self._ending, pause))
            self._writers[-1].start()

    def rest(self) -> None:
        """No client writes any more. Raises what one of them met that must not be."""
        self._ending.set()
        writers, self._writers = self._writers, []
        for writer in writers:
            writer.join(150)
            assert not writer.is_alive(), f"{writer.name} is still told nothing"
            if writer.failed:
                raise writer.failed

    def let_through(self, events: int = 50, patience: float = 60.0) -> None:
        """Until so many events more were acknowledged."""
        enough, deadline = len(self.ledger) + events, time.monotonic() + patience
        while len(self.ledger) < enough:
            assert all(writer.failed is None for writer in self._writers), [w.failed for w in self._writers]
            assert time.monotonic() < deadline, "the door stayed away"
            time.sleep(0.01)

    def recovered(self, patience: float = 90.0) -> None:
        """Until events that are sent now, one of each partition, show in features: the whole way is open again."""
        calls, deadline = [self.probe(p) for p in range(PARTITIONS)], time.monotonic() + patience
        with closing(Door(self.settings, KEY, timeout=2.0)) as door:
            Client(door, self.ledger, self.dice).send(calls, until_told=True)
        for call in calls:
            while not self._counted(call["userId"]):
                assert time.monotonic() < deadline, (
                    f"{call} was acknowledged, but does not count {patience:.0f} s later"
                )
                time.sleep(0.01)

    def probe(self, partition: int) -> Call:
        """A document that somebody new opens now, who belongs there."""
        for n in self._probes:
            user = f"probe-{self._seed}-{n}"
            if identity(self._store, f"{ORGANISATION}/{user}".encode()) % PARTITIONS == partition:
                break
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        return {"type": "track", "event": "Document Viewed", "userId": user, "messageId": user, "timestamp": now}

    def _counted(self, user: str) -> bool:
        with suppress(StoreError, redis.RedisError), closing(connect(self.settings)) as client:
            return made.features(client, VOCABULARY, user)["doc_access_count_30d"] == 1
        return False

    # -- what is to be seen

    def pids(self, what: str) -> list[int]:
        """Processes that run this module or program; of `telltale up` itself for "up"."""
        if self.up is None:
            return []
        return [self.up.process.pid] if what == "up" else self.up.pids(what)

    def kill(self, what: str, how: int = signal.SIGKILL) -> int:
        """How many there were."""
        killed = 0
        for pid in self.pids(what):
            with suppress(ProcessLookupError):
                os.kill(pid, how)
                killed += 1
        return killed

    def vanish(self) -> None:
        """SIGKILL to all processes at once; returns when none runs any more."""
        assert self.up is not None
        pids = [self.up.process.pid, *self.up.pids("")]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.end()
        deadline = time.monotonic() + 10
        while any(map(_runs, pids)):
            assert time.monotonic() < deadline, "a process outlived SIGKILL"
            time.sleep(0.002)

    def alerts(self) -> list[dict[str, Any]]:
        """All, as the API lists them."""
        found: list[dict[str, Any]] = []
        cursor: str | None = ""
        with closing(self.door()) as door:
            while cursor is not None:
                page = json.loads(eventually(door, f"/v1/alerts?limit=200{f'&cursor={cursor}' if cursor else ''}"))
                found += page["alerts"]
                cursor = page["next"]
        return found

    def delivered(self) -> set[str]:
        """Ids of alerts that the webhook was told."""
        lines = (self._place / "delivered").read_text().splitlines()
        return {line.split()[1] for line in lines if len(line.split()) == 3}

    def problem(self) -> str:
        """Why it is not ready, in its own words; empty when it is, or when nobody answers."""
        with closing(Door(self.settings, KEY, timeout=2.0)) as door:
            try:
                door.text("/readyz")
            except Turned as turned:
                return str(turned)
            except Closed:
                return ""
        return ""


def _runs(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    return False


OnSite: TypeAlias = Callable[[Site, random.Random], float]  # makes a fault; returns when the trouble was over
