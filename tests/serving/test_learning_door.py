"""`GET /v1/learning` and /metrics, of the real process that learns from what the doors record."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from feature_repo import keys
from feature_repo.settings import Settings
from flows.alert_store import open_alerts
from flows.embedded import Embedded
from flows.store import connect
from onnx_models.library import Library
from serving.metrics_read import values
from tests.flows.made_models import VERSION, logistic
from tests.flows.made_outcomes import SELL, alert
from tests.live import ORGANISATION, Live, live, worker


@pytest.fixture(scope="module")
def ground(empty_valkey: Embedded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Live, Settings]]:
    """An API, and the process that learns, over a store of the wall's time."""
    home = tmp_path_factory.mktemp("learning")
    logistic(home / "shipped", SELL, "session_count_30d", 1.0, 2.0, 0.5)
    redis_url = f"unix://{empty_valkey.where.socket}"
    settings = Settings(home=home, redis_url=redis_url, partitions=2, models=str(home / "shipped"))
    with live(settings) as api, worker(settings, "flows.learning"):
        yield api, settings


def until(api: Live, learned: int) -> Any:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        found = api.ask("GET", "/v1/learning").json
        if any(one["report"].get("outcomes") == learned for one in found["learners"]):
            return found
        time.sleep(0.1)
    raise AssertionError(found)


def test_what_is_recorded_of_an_alert_is_learned(ground: tuple[Live, Settings]) -> None:
    """Within seconds, by every learner, and told: what the withheld did beside the others, what was set aside."""
    api, settings = ground
    now = time.time_ns() // 1_000_000
    made = [alert(n, now - 5_000 + n, organisation=ORGANISATION) for n in range(6)]
    with closing(open_alerts(settings)) as store:
        store.insert(made)
    for n, one in enumerate(made[:4]):
        told = {"outcome": "TRUE_POSITIVE" if n == 0 else "FALSE_POSITIVE"}
        assert api.post(f"/v1/alerts/{one.id}/outcome", told).status in {200, 201}
    found = until(api, 4)
    assert {one["learner"] for one in found["learners"]} >= {"recalibration", "challenger_linear", "drift"}
    (compared,) = found["withheld"]
    withheld = [one.withheld for one in made]
    assert compared["told"]["alerts"] + compared["withheld"]["alerts"] == 6
    assert compared["withheld"] == {
        "alerts": sum(withheld),
        "labelled": sum(withheld[:4]),
        "came_about": int(withheld[0]),
    }
    assert (found["set_aside"], found["alarms"]) == ([], [])


def test_others_learn_apart(ground: tuple[Live, Settings]) -> None:
    """An organisation sees its own learners, and those of all."""
    api, settings = ground
    with closing(connect(settings)) as client:
        client.hset(keys.KEYS, "other", "another")
    found = api.ask("GET", "/v1/learning", headers={"Authorization": "Basic b3RoZXI6"}).json
    assert {one["organisation"] for one in found["learners"]} == {""}
    assert found["withheld"] == []


def test_metrics_tell_how_it_stands(ground: tuple[Live, Settings]) -> None:
    """What was learned, what waits, what was dropped."""
    api, settings = ground
    with closing(connect(settings)) as client:
        client.set(keys.outcomes_dropped(1), 7)
    deadline, text = time.monotonic() + 20, ""
    while time.monotonic() < deadline and values(text, "telltale_learning_labels_total") != [4]:
        text = api.ask("GET", "/metrics").body.decode()
        time.sleep(0.2)
    assert values(text, "telltale_learning_labels_total") == [4]
    assert values(text, "telltale_learning_scores_open") == [2]
    assert values(text, "telltale_outcomes_dropped_total") == [0, 7]
    assert f'telltale_learning_alarms{{model="{SELL.name}"}} 0' in text
    assert time.time() - values(text, "telltale_learning_alive_at")[0] < 15


def test_the_registry_was_left_alone(ground: tuple[Live, Settings]) -> None:
    """Four outcomes are no evidence."""
    assert Library.of(ground[1]).calibrations(SELL.name).holding(VERSION) == {}
    assert not (Path(ground[1].home) / "onnx_models" / SELL.name / "registry.json").exists()
