"""Several engines over one store: who comes and goes when, nothing is lost, counted twice or alerted twice.

`KILLS=200 make faults` goes on for longer.
"""

from __future__ import annotations

import random
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from subprocess import Popen, TimeoutExpired
from typing import cast

import msgspec
import numpy as np
import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families

from feature_repo import keys
from feature_repo.settings import Settings
from flows.alert import MIN_CONFIDENCE, decode
from flows.store import Store
from tests.faults.engines import engine, opened, owners, post, until, until_counted, until_shared
from tests.faults.rounds import KILLS
from tests.flows import streams_made as made
from tests.flows.both_sides import VOCABULARY
from tests.flows.ground import Ground
from tests.flows.made_models import logistic
from tests.flows.streams_made import START, Event
from tests.live import live

CHECK = VOCABULARY.code["property_value_check", None]
SELL = next(s for s in VOCABULARY.services if s.name == "likely_to_sell")
CHECKS = 6  # value checks within 30 days that make the model fire
PEOPLE = 40
SIGNALS = {"kill": signal.SIGKILL, "end": signal.SIGTERM, "stall": signal.SIGSTOP}


@pytest.fixture
def ground(client: redis.Redis, settings: Settings) -> Ground:
    """An empty store of four partitions, and an oracle; the engines are processes."""
    return Ground(client, settings)


def test_two_engines_share_and_each_event_counts_once(ground: Ground) -> None:
    """Half of the partitions each, whoever came when; an anonymous person's events reach the user over the border."""
    client, store = ground.client, ground.store
    with engine(ground.settings):
        post(client, store, 100, 0)
        until_counted(client, store)
        with engine(ground.settings):
            until_shared(client, store, 2)
            made.post(client, store, VOCABULARY, [_document(f"anon:u{i}", 1, 1_000 + i) for i in range(100)])
            post(client, store, 100, 2)
            for i in range(100):
                made.join(client, store, VOCABULARY, f"anon:u{i}", f"u{i}", START + 3)
            until_counted(client, store, quiet=5)
    assert {opened(client, f"u{i}") for i in range(100)} == {3}
    assert made.counts(client, store) == {"accepted": 300, "processed": 300}


def test_the_share_of_one_that_is_killed_goes_to_the_other(ground: Ground) -> None:
    """Once its leases are over; what it had counted and not written is counted again."""
    client, store = ground.client, ground.store
    with engine(ground.settings), engine(ground.settings) as killed:
        until_shared(client, store, 2)
        post(client, store, 500, 0)
        killed.kill()
        post(client, store, 500, 1)
        until_shared(client, store, 1)
        until_counted(client, store)
    assert {opened(client, f"u{i}") for i in range(500)} == {2}
    assert made.counts(client, store) == {"accepted": 1000, "processed": 1000}


def test_one_that_is_started_again_at_once_keeps_its_share(ground: Ground) -> None:
    """Nobody else moves: only its own partitions are taken anew."""
    client, store = ground.client, ground.store
    with engine(ground.settings), engine(ground.settings) as killed:
        until_shared(client, store, 2)
        post(client, store, 100, 0)
        until_counted(client, store)
        before, epochs = owners(client, store), _epochs(client, store)
        killed.kill()
        killed.wait()
        with engine(ground.settings):
            post(client, store, 100, 1)
            until_counted(client, store)
            assert owners(client, store) == before
            taken = [p for p, epoch in enumerate(_epochs(client, store)) if epoch != epochs[p]]
            assert len({before[p] for p in taken}) == 1
            assert len(taken) == 2
    assert {opened(client, f"u{i}") for i in range(100)} == {2}


def test_one_joins_and_one_leaves_under_load(ground: Ground) -> None:
    """A third takes its share of a log that fills; of one that is stopped nobody waits for the leases."""
    client, store = ground.client, ground.store
    with engine(ground.settings) as leaves, engine(ground.settings), closing(Load(ground, seed=1)) as load:
        until_shared(client, store, 2)
        with engine(ground.settings):
            until_shared(client, store, 3)
            load.go_on()
            leaves.terminate()
            assert leaves.wait(10) == 0
            until_shared(client, store, 2)
            load.go_on()
            load.close()
            until_counted(client, store, quiet=3)
    _check(ground)


def test_metrics_of_two_add_up_and_stay_true(ground: Ground) -> None:
    """Each engine's figures by its name; of one that died they go, and its share is told of the other."""
    client, store = ground.client, ground.store
    with live(ground.settings) as api, engine(ground.settings), engine(ground.settings) as killed:
        first, second = sorted(set(until_shared(client, store, 2)))
        post(client, store, 300, 0)
        until_counted(client, store)
        until(lambda: sum(_said(api.ask("GET", "/metrics").body, "events").values()) == 300)
        metrics = api.ask("GET", "/metrics").body
        assert _said(metrics, "partitions") == {first: 2, second: 2}
        assert all(_said(metrics, "events").values())
        assert api.ask("GET", "/readyz").status == 200
        killed.kill()
        until(lambda: list(_said(api.ask("GET", "/metrics").body, "partitions").values()) == [4])
        assert _said(api.ask("GET", "/metrics").body, "alive_at").keys() == {first, second}
        assert api.ask("GET", "/readyz").status == 200


def test_whoever_comes_and_goes_when(ground: Ground) -> None:
    """Kills, ends, joins, stalls within the leases and beyond, at random: all features as a count from scratch."""
    logistic(ground.settings.home / "models", SELL, "value_check_count_30d", 1.0, CHECKS - 1, 0.7)
    ground.settings = msgspec.structs.replace(
        ground.settings, cache_users=24, models=str(ground.settings.home / "models")
    )
    with closing(Crew(ground.settings)) as crew, closing(Load(ground, seed=KILLS)) as load:
        until_shared(ground.client, ground.store, 1)  # the model is tried by then, and by nobody who is stalled
        dice = random.Random(KILLS)
        while crew.done.total() < KILLS * 2:
            crew.live(dice)
            if dice.random() < 0.3:
                load.go_on()
        load.close()
        crew.wake()
        crew.start()
        until_counted(ground.client, ground.store, quiet=5)
    print(f"{dict(crew.done)}; {ground.counts()}")
    _check(ground)
    _check_alerts(ground)


class Load(threading.Thread):
    """Random events, posted until told to end: some twice, late, or value checks."""

    def __init__(self, ground: Ground, seed: int) -> None:
        super().__init__(daemon=True)
        self._ground, self._rng = ground, np.random.default_rng(seed)
        self._posted, self._ending = 0, threading.Event()
        self.start()

    def run(self) -> None:
        events = self._events()
        while not self._ending.wait(0.01):
            self._ground.post(*(next(events) for _ in range(self._rng.integers(1, 9))))
            self._posted += 1

    def go_on(self) -> None:
        """Until so much more was posted, and something of it is worked."""
        aim, worked = self._posted + 30, self._worked()
        until(lambda: self._posted >= aim and self._worked() > worked)

    def close(self) -> None:
        self._ending.set()
        self.join()

    def _worked(self) -> int:
        counts = self._ground.counts()
        return sum(counts.values()) - counts.get("accepted", 0)

    def _events(self) -> Iterator[Event]:
        """Within a day of the log, however long it goes on."""
        for i, event in enumerate(made.random_events(VOCABULARY, self._rng, 200_000, PEOPLE, 1)):
            yield msgspec.structs.replace(event, code=CHECK, traits=()) if i % 4 == 0 else event


class Crew:
    """Engines as processes, one to three that are awake: something happens to one of them with each `live`."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._stack = settings, ExitStack()
        self._running: list[Popen[bytes]] = []
        self._stalled: list[Popen[bytes]] = []
        self.done = Counter[str]()
        self.start()

    def live(self, dice: random.Random) -> None:
        threading.Event().wait(dice.expovariate(1.5))
        what = dice.choices(["start", "kill", "end", "stall", "wake"], [5, 4, 2, 2, 3])[0]
        if what == "start" and len(self._running) < 3:
            self.start()
        elif what == "wake" and self._stalled:
            self.wake()
        elif what in SIGNALS and self._running:
            one = self._running.pop(dice.randrange(len(self._running)))
            one.send_signal(SIGNALS[what])
            if what == "stall":
                self._stalled.append(one)
            if not self._running:
                self.start()
        else:
            return
        self.done[what] += 1

    def start(self) -> None:
        self._running.append(self._stack.enter_context(engine(self._settings)))

    def wake(self) -> None:
        for one in self._stalled:
            one.send_signal(signal.SIGCONT)
        self._running += self._stalled
        self._stalled = []

    def close(self) -> None:
        for one in self._running:
            one.terminate()
        for one in self._running:
            with suppress(TimeoutExpired):
                one.wait(10)
        self._stack.close()


def _document(user: str, n: int, mid: int) -> Event:
    return Event(user, VOCABULARY.code["document_access", None], 0, START + n, START + n, mid)


def _epochs(client: redis.Redis, store: Store) -> list[int]:
    return [int(cast(bytes, client.get(keys.epoch(p)))) for p in range(store.partitions)]


def _said(metrics: bytes, name: str) -> dict[str, float]:
    """By engine."""
    families = text_string_to_metric_families(metrics.decode())
    found = (sample for family in families for sample in family.samples if sample.name == f"telltale_engine_{name}")
    return {sample.labels["engine"]: sample.value for sample in found}


def _check(ground: Ground) -> None:
    """Against the oracle, which was told the same."""
    assert ground.wrong() == {}
    counts = ground.counts()
    assert counts.pop("accepted") == sum(counts.values())
    assert counts == {name: n for name, n in ground.oracle.outcomes.items() if n}


def _check_alerts(ground: Ground) -> None:
    """One for everybody whose value checks make the model fire, on evidence: within a day no cool-down ends."""
    entries = cast(list[tuple[bytes, dict[bytes, bytes]]], ground.client.xrange(keys.ALERTS))
    alerted = [decode(fields[b"a"]).user for _, fields in entries]
    people = ground.oracle.people
    due = {user for user, person in people.items() if person.count("property_value_check", 30) >= CHECKS}
    assert alerted
    assert len(alerted) == len(set(alerted))
    assert {user for user in due if people[user].confidence() >= MIN_CONFIDENCE} <= set(alerted)
