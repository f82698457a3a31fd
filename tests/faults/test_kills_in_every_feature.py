"""kill -9 of API, engine and store while calls of every kind come in: all 45 features against the full oracle.

On the wall clock, with an engine that has to evict, and no lake: so the log stays whole and tells what was stored
in which order. `KILLS=200 make faults` goes on for longer.
"""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
import redis

from feature_repo import keys
from feature_repo.settings import Settings
from flows.alert import MIN_CONFIDENCE
from flows.alert import decode as decode_alert
from flows.embedded import Embedded, embedded
from flows.entry import Kind, decode, unpack_raw
from flows.resp import StoreError
from flows.store import connect, create, open_store
from serving.client import Closed, Door, Turned
from serving.supervisor import environment
from tests.faults.calls import Call, Calls
from tests.faults.engines import until_counted
from tests.faults.rounds import ALL, KILLS
from tests.faults.told import checking, told
from tests.flows import streams_made as made
from tests.flows.both_sides import VOCABULARY
from tests.flows.made_models import logistic
from tests.flows.oracle import Oracle, unlike

WRITERS, BATCH = 2, 8
FEW_TOGETHER = "tests.faults.few_together"
KEY, ORGANISATION = "key-of-the-test", "org"
SELL = next(s for s in VOCABULARY.services if s.name == "likely_to_sell")
CHECKS = 8  # value checks within 30 days that make the model fire


class Processes:
    """Store, API and engine (a module): each is started again when it was killed, and only then."""

    def __init__(self, settings: Settings, server: Embedded, engine: str) -> None:
        self.settings, self.server, self.engine = settings, server, engine
        self.commands = {name: [sys.executable, "-m", name] for name in ("serving.app", engine)}
        self.running = {name: self._start(name) for name in self.commands}
        self.killed: Counter[str] = Counter()
        self.cut = 0  # large flushes that a kill of the engine cut

    def kill(self, victim: str) -> None:
        process = self.server.process if victim == "store" else self.running[victim]
        assert process is not None
        assert process.poll() is None, f"{victim} ended by itself: {process.returncode}"
        process.kill()
        process.wait()
        self.killed[victim] += 1
        if victim == self.engine:
            with suppress(StoreError, redis.RedisError), closing(connect(self.settings)) as client:
                self.cut += client.exists(*map(keys.redo, range(4)))

    @property
    def enough(self) -> bool:
        """Killed often, and in a large flush where each flush is one."""
        return self.killed.total() >= KILLS and (self.cut > ALL or self.engine != FEW_TOGETHER)

    def revive(self, victim: str) -> None:
        if victim == "store":
            self.server.restart()
        else:
            self.running[victim] = self._start(victim)

    def close(self) -> None:
        for process in self.running.values():
            process.terminate()
        for process in self.running.values():
            process.wait(10)

    def _start(self, name: str) -> subprocess.Popen[bytes]:
        with (self.settings.home / "logs" / f"{name}.log").open("ab") as log:
            return subprocess.Popen(self.commands[name], env=environment(self.settings), stderr=log)


class Writer(threading.Thread):
    """Posts batches of calls until told to end, each until it is acknowledged; now and then one again."""

    def __init__(self, settings: Settings, number: int, ending: threading.Event) -> None:
        super().__init__(daemon=True)
        self.door, self.ending, self.number = Door(settings, KEY), ending, number
        self.dice = random.Random(number)
        self.calls = Calls(self.dice)
        self.acknowledged: list[str] = []

    def run(self) -> None:
        batch: list[Call] = []
        while not self.ending.is_set():
            if not batch or self.dice.random() < 0.9:
                batch = [self.calls.made(f"{self.number}-{len(self.acknowledged)}-{i}") for i in range(BATCH)]
            self.post(batch)
            self.acknowledged += [call["messageId"] for call in batch]
        self.door.close()

    def post(self, batch: list[Call]) -> None:
        body, deadline = msgspec.json.encode({"batch": batch}), time.monotonic() + 60
        while True:
            with suppress(Closed, Turned):
                assert msgspec.json.decode(self.door.post("/v1/batch", body, {}))["rejected"] == []
                return
            assert time.monotonic() < deadline, "the door stayed away for a minute"
            time.sleep(0.05)


@pytest.fixture(params=["flows.alerting", FEW_TOGETHER])
def processes(tmp_path: Path, free_port: int, request: pytest.FixtureRequest) -> Iterator[Processes]:
    """The three of them, and one model, which fires from CHECKS value checks on."""
    logistic(tmp_path / "models", SELL, "value_check_count_30d", slope=1.0, middle=CHECKS - 1, threshold=0.7)
    settings = Settings(
        home=tmp_path, port=free_port, partitions=4, cache_users=24, models=str(tmp_path / "models")
    )  # fmt: skip
    with ExitStack() as stack:
        server = embedded(tmp_path)
        stack.callback(server.stop)
        with closing(connect(settings)) as client:
            create(client, settings)
            client.hset(keys.KEYS, KEY, ORGANISATION)
        yield stack.enter_context(closing(Processes(settings, server, request.param)))


def test_every_feature_survives_kills(processes: Processes) -> None:
    """Nothing acknowledged is lost, nothing counts twice, nobody is alerted on twice, and all 45 features are right."""
    ending = threading.Event()
    writers = [Writer(processes.settings, number, ending) for number in range(WRITERS)]
    for writer in writers:
        writer.start()
    _kill_in_a_loop(processes, writers)
    ending.set()
    for writer in writers:
        writer.join(90)
    assert not any(writer.is_alive() for writer in writers)
    with closing(connect(processes.settings)) as client:
        until_counted(client, open_store(client), quiet=3)
        oracle, stored = _judged(client)
        acknowledged = {message for writer in writers for message in writer.acknowledged}
        assert acknowledged <= stored
        counts = made.counts(client, open_store(client))
        assert counts.pop("accepted") == sum(counts.values())
        assert counts == {name: n for name, n in oracle.outcomes.items() if n}
        assert _wrong(client, oracle) == {}
        _check_alerts(client, oracle)
    print(f"killed {dict(processes.killed)}, in a large flush {processes.cut} times; {counts}")


def _kill_in_a_loop(processes: Processes, writers: list[Writer]) -> None:
    """Random victims at random moments, also while they start; the store is away for a while."""
    dice = random.Random(KILLS)
    while not processes.enough:
        if dice.random() < 0.7:
            _let_something_through(writers)
        time.sleep(dice.expovariate(4.0))
        victims = dict.fromkeys(dice.choices(["store", *processes.commands], [2, 1, 3], k=dice.choice([1, 1, 2])))
        for victim in victims:
            processes.kill(victim)
        time.sleep(dice.random() / 2)
        for victim in victims:
            processes.revive(victim)
    _let_something_through(writers)


def _let_something_through(writers: list[Writer]) -> None:
    enough = sum(len(writer.acknowledged) for writer in writers) + 100
    deadline = time.monotonic() + 30
    while sum(len(writer.acknowledged) for writer in writers) < enough:
        assert time.monotonic() < deadline, "the door stayed away"
        time.sleep(0.01)


def _judged(client: redis.Redis) -> tuple[Oracle, set[str]]:
    """An oracle that was told the log, from its raw JSON; and all message ids in it."""
    calls: list[tuple[int, Call]] = []
    for p in range(4):
        for id_, fields in cast(list[tuple[bytes, dict[bytes, bytes]]], client.xrange(keys.log(p))):
            if decode(fields[b"e"]).kind == Kind.EVENTS:
                now = int(id_.partition(b"-")[0])
                calls += [(now, msgspec.json.decode(raw)) for raw in unpack_raw(fields[b"r"]) if raw]
    return told(calls), {call["messageId"] for _, call in calls}


def _wrong(client: redis.Redis, oracle: Oracle) -> dict[str, Any]:
    found = {}
    for user, person in oracle.people.items():
        at = made.feature_time(client, VOCABULARY, user)
        assert at >= person.now, user
        person.pass_time(at)
        if off := unlike(made.features(client, VOCABULARY, user), person.features()):
            found[user] = off
    return found


def _check_alerts(client: redis.Redis, oracle: Oracle) -> None:
    """One for everybody whose value checks make the model fire, on evidence: within minutes no episode ends."""
    entries = cast(list[tuple[bytes, dict[bytes, bytes]]], client.xrange(keys.ALERTS))
    alerted = [decode_alert(fields[b"a"]).user for _, fields in entries]
    now, before = (checking(oracle, days, CHECKS) for days in (30, 31))  # midnight may have passed
    assert alerted
    assert len(alerted) == len(set(alerted))
    assert set(alerted) <= before
    assert {user for user in now if oracle.person(user).confidence() >= MIN_CONFIDENCE} <= set(alerted)
