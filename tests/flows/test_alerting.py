"""The dataflow, and when it alerts."""

from __future__ import annotations

import contextlib
import math
import re
import signal
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
import pytest

from feature_repo import keys
from flows import running
from flows.alert import Alert, decode
from flows.alerting import dataflow
from flows.engine import Engine
from flows.housekeeping import Housekeeping
from flows.poison import Caution
from flows.progress import Progress
from flows.scoring import Evaluated
from flows.store import connect, dial
from flows.streams import Read
from onnx_models.library import Library
from onnx_models.session import Model
from onnx_models.watch import Watch
from serving.metrics import ENGINE
from tests.flows import streams_made as made
from tests.flows.both_sides import VOCABULARY
from tests.flows.ground import Ground, event, live
from tests.flows.made_models import VERSION, logistic
from tests.flows.streams_made import DAY, START, Event


class Watched(Engine):
    """Notes what the flow does, and ends it once everything was counted."""

    def __init__(self, *args: Any) -> None:
        self.trace: list[str] = []
        super().__init__(*args)

    def evaluate(self, due: list[Progress]) -> Evaluated:
        self.trace.append("evaluate")
        return super().evaluate(due)

    def count(self, reads: list[Read]) -> list[Read]:
        self.trace += ["count"] if reads else []
        return super().count(reads)

    def write(self, evaluated: Evaluated) -> None:
        self.trace.append("write")
        super().write(evaluated)
        if self.counting.events == 300:
            running.stopping.set()


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        running.stopping.clear()
        for number, handler in kept.items():
            signal.signal(number, handler)


def test_dataflow_goes_all_the_way_before_it_reads_on(ground: Ground) -> None:
    """What is due is written before anything else is counted, so that state stands at its position."""
    rng = np.random.default_rng(2)
    for each in made.random_events(VOCABULARY, rng, 300, 12, 30):
        ground.post(each)
    engine = Watched(VOCABULARY, ground.settings, ground.store, ground.client, lambda: dial(ground.settings), {})
    ground.engines.append(engine)
    keeping = Housekeeping(engine, connect(ground.settings), dial(ground.settings))
    caution = Caution()
    caution.begin(engine, ground.client)
    with _signals_kept():
        running.run(dataflow(engine, Watch(Library(ground.settings.home), []), lambda: [caution.read()]))
    keeping.stop()
    keeping._connection.close()
    keeping._client.close()
    engine.flush()
    assert "write" in engine.trace
    assert all(then == "write" for step, then in pairwise(engine.trace) if step == "evaluate")
    assert ground.online() == ground.offline()


def test_engine_says_of_each_partition_what_it_did(ground: Ground) -> None:
    """Each name has a meaning on /metrics; what partitions share is told of each."""
    for each in made.random_events(VOCABULARY, np.random.default_rng(2), 300, 12, 30):
        ground.post(each)
    engine = ground.engine()
    made.drain(engine)
    keeping = Housekeeping(engine, connect(ground.settings), dial(ground.settings))
    keeping._report()
    keeping.stop()
    keeping._connection.close()
    keeping._client.close()
    said = {name.decode(): float(value) for name, value in ground.client.hgetall(keys.gauges(engine.owner)).items()}
    assert {re.split("[:@]", name)[0] for name in said} == set(ENGINE) - {"alive_at"}
    assert sum(n for name, n in said.items() if name.startswith("cache_misses@")) == len(engine.people.table)
    for name in ("unflushed_ms", "dedup_horizon_hours"):
        assert {p for p in engine.partitions if f"{name}@{p}" in said} == set(engine.partitions)


# -- alerts

CHECK = VOCABULARY.code["property_value_check", None]
SELL = next(s for s in VOCABULARY.services if s.name == "likely_to_sell")
MANY = 6  # checks of a home's value in 30 days that make the model fire


@pytest.fixture
def models(tmp_path: Path) -> dict[str, Model]:
    """One model, which answers above its threshold from MANY value checks on."""
    model = logistic(tmp_path, SELL, "value_check_count_30d", slope=1.0, middle=MANY - 1, threshold=0.7)
    return {SELL.name: model}


def alerts(ground: Ground) -> list[Alert]:
    entries = cast(list[tuple[bytes, dict[bytes, bytes]]], ground.client.xrange(keys.ALERTS))
    return [decode(fields[b"a"]) for _, fields in entries]


def checks(user: str, at: int, n: int, count: int = MANY) -> list[Event]:
    """Value checks of one user, one a minute from `at`."""
    return [event(user, at + i * 60_000, n + i, CHECK) for i in range(count)]


def test_alert_says_what_was_scored(ground: Ground, models: dict[str, Model]) -> None:
    """An alert carries the score, the confidence, the signals and the very features that stand in Redis."""
    engine = ground.engine(models=models)
    ground.post(*checks("u1", START, 1))
    made.drain(engine)
    (alert,) = alerts(ground)
    found = ground.features("u1")
    assert alert.features == [found[name] for name in SELL.features]
    assert (alert.organisation, alert.user, alert.type) == ("org", "u1", "LIKELY_TO_SELL")
    assert alert.score == pytest.approx(1 / (1 + math.exp(-1)), abs=1e-6)
    assert (alert.model, alert.model_version) == ("likely_to_sell", VERSION)
    assert alert.scored_at == START + (MANY - 1) * 60_000
    assert [s.name for s in alert.signals] == ["value_checks"]
    assert alert.signals[0].counts == {"last_30d": MANY, "last_90d": MANY}
    assert alert.confidence == pytest.approx(2 * MANY / (2 * MANY + 4))


def test_a_version_that_comes_while_it_runs(ground: Ground, models: dict[str, Model], tmp_path: Path) -> None:
    """A batch is decided by the models that scored it; the next one by those that came meanwhile, as its alert says."""
    version = "20260301000000"
    easier = logistic(tmp_path, SELL, "value_check_count_30d", slope=1.0, middle=4.0, threshold=0.2, version=version)
    engine = ground.engine(models=models)
    ground.post(*checks("u1", START, 1, MANY - 2))
    engine.count(engine.read() or engine.read())
    batch = engine.score(engine.evaluate(engine._due()))
    engine.models = {SELL.name: easier}
    assert batch.scores[SELL.name][1].max() > easier.threshold
    engine.write(engine.decide(batch))
    made.drain(engine)
    assert alerts(ground) == []
    ground.post(event("u1", START + DAY, 99))
    made.drain(engine)
    assert [alert.model_version for alert in alerts(ground)] == [version]


@pytest.mark.parametrize("seed", range(2))
def test_alerts_come_once_through_kills(ground: Ground, models: dict[str, Model], seed: int) -> None:
    """Whoever is killed when: each person who passes the threshold has one alert, and nobody else has any."""
    rng = np.random.default_rng(seed)
    engine, users = ground.engine(models=models), [f"u{i}" for i in range(30)]
    wanted = [u for u in users if rng.random() < 0.5]
    left = [e for u in users for e in checks(u, START, 100 * int(u[1:]), MANY + 2 if u in wanted else MANY - 2)]
    rng.shuffle(left)
    for i in range(0, len(left), 4):
        now = START + i * 60_000
        ground.post(*(msgspec.structs.replace(e, ts=now, now=now) for e in left[i : i + 4]))
        engine = live(ground, rng, engine, models=models)
    made.drain(engine)
    assert sorted(a.user for a in alerts(ground)) == sorted(wanted)
    assert len({a.id for a in alerts(ground)}) == len(wanted)
    assert ground.wrong() == {}


def after(ground: Ground, engine: Engine, day: int, *events: Event) -> int:
    """How many alerts there are once these events came on that day, and the day passed."""
    if events:
        ground.post(*events)
        made.drain(engine)
    ground.pass_time(START + day * DAY + 3_600_000)
    made.drain(engine)
    return len(alerts(ground))


def test_one_episode_is_open_at_a_time(ground: Ground, models: dict[str, Model]) -> None:
    """While a score stays high there is one alert; once it has fallen, and risen again, there is another."""
    engine = ground.engine(models=models)
    assert after(ground, engine, 0, *checks("u1", START, 1)) == 1
    assert after(ground, engine, 1, *checks("u1", START + DAY, 20)) == 1
    assert after(ground, engine, 32) == 1
    assert after(ground, engine, 41, *checks("u1", START + 41 * DAY, 40)) == 2
    assert [a.scored_at for a in alerts(ground)] == [START + 5 * 60_000, START + 41 * DAY + 5 * 60_000]


def test_cool_down_holds_alerts_back(ground: Ground, models: dict[str, Model]) -> None:
    """A score that falls and rises again within the cool-down alerts only once that is over."""
    ground.settings = msgspec.structs.replace(ground.settings, cooldown_days=60)
    engine = ground.engine(models=models)
    assert after(ground, engine, 0, *checks("u1", START, 1)) == 1
    assert after(ground, engine, 31) == 1
    assert after(ground, engine, 45, *checks("u1", START + 45 * DAY, 20)) == 1
    assert after(ground, engine, 59) == 1
    assert after(ground, engine, 60) == 2


def test_thin_evidence_alerts_nobody(ground: Ground, models: dict[str, Model], tmp_path: Path) -> None:
    """A high score without at least 50 % confidence in the signals opens no episode."""
    sure = logistic(tmp_path / "x", SELL, "value_check_count_30d", slope=5.0, middle=0.5, threshold=0.7)
    engine = ground.engine(models={SELL.name: sure})
    ground.post(*checks("u1", START, 1, count=1))
    made.drain(engine)
    assert alerts(ground) == []
    ground.post(*checks("u1", START + DAY, 5, count=2))
    made.drain(engine)
    assert [a.confidence for a in alerts(ground)] == [pytest.approx(0.6)]


def test_history_is_silent(ground: Ground, models: dict[str, Model]) -> None:
    """Imported history counts and alerts nobody; the first thing that happens afterwards may."""
    engine = ground.engine(models=models)
    ground.post(*checks("u1", START, 1), history=True)
    made.drain(engine)
    assert ground.features("u1")["value_check_count_30d"] == MANY
    assert alerts(ground) == []
    ground.post(event("u1", START + DAY, 50))
    made.drain(engine)
    assert [a.user for a in alerts(ground)] == ["u1"]


def test_episode_goes_with_the_person(ground: Ground, models: dict[str, Model]) -> None:
    """Who was alerted on while anonymous is not alerted on again as the user they turned out to be."""
    engine = ground.engine(models=models)
    made.post(ground.client, ground.store, VOCABULARY, checks("anon:a", START, 1))
    made.drain(engine)
    assert [a.user for a in alerts(ground)] == ["anon:a"]
    made.join(ground.client, ground.store, VOCABULARY, "anon:a", "u1", START + DAY)
    made.drain(engine)
    ground.post(event("u1", START + 2 * DAY, 50))
    made.drain(engine)
    assert ground.features("u1")["value_check_count_30d"] == MANY
    assert [a.user for a in alerts(ground)] == ["anon:a"]
