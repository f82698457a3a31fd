"""Scores when asked: of what stands, and once a real engine has looked at the person."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from feature_repo.moments import instant
from feature_repo.settings import Settings
from feature_repo.vocabulary import Vocabulary
from flows.active_people import active
from flows.store import connect, embedded, open_store
from serving.metrics_read import values
from tests.flows.made_models import VERSION, trees
from tests.live import Live, live, worker

NOW, DAY = 1_750_000_000_000, 86_400_000
SELL = next(service for service in Vocabulary().services if service.name == "likely_to_sell")


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """API, engine and drain over a store on event time, in which `keen` was imported as history: nothing fired."""
    home = tmp_path_factory.mktemp("demand")
    server = embedded(home)
    trees(home / "models", SELL, "value_check_count_30d", above=5, threshold=0.6, version=VERSION)
    settings = Settings(home=home, partitions=2, clock="log", withheld=0.0, models=str(home / "models"))
    try:
        with live(settings) as running, worker(settings, "flows.alerting"), worker(settings, "flows.alert_drain"):
            post(running, [event("keen", 12 * i, "Home Value Viewed") for i in range(10)])
            post(running, [event("calm", 0, "Document Viewed"), event("long gone", 9_000, "Document Viewed")])
            soon(lambda: running.post("/v1/score-user", {"userId": "calm"}).status == 200)
            yield running
    finally:
        server.stop()


def event(user: str, hours_ago: int, name: str) -> dict[str, Any]:
    return {
        "type": "track",
        "userId": user,
        "event": name,
        "timestamp": instant(NOW - hours_ago * DAY // 24).isoformat(),
    }


def post(api: Live, calls: list[dict[str, Any]]) -> None:
    calls.sort(key=lambda call: str(call["timestamp"]))
    assert api.post("/v1/batch", {"batch": calls}, X_Telltale_History="1").status == 200


def soon(condition: Any) -> None:
    due = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < due, "it did not happen in time"
        time.sleep(0.02)


def counted(api: Live, what: str) -> float:
    return sum(values(api.ask("GET", "/metrics").body.decode(), f"telltale_events_{what}_total"))


def test_a_person_is_scored_as_they_stand(api: Live) -> None:
    """As `/v1/users/{id}/scores` says it, with reasons and what to do; no alert opens."""
    told = api.post("/v1/score-user", {"userId": "keen"}).json
    assert told == api.ask("GET", "/v1/users/keen/scores").json
    best = told["scores"][0]
    assert best["score"] >= best["threshold"]
    assert best["reasons"][0]["says"]
    assert best["recommendation"]["action"]
    assert 0.5 <= best["confidence"] <= 1
    assert api.ask("GET", "/v1/users/keen/alerts").json["alerts"] == []


def test_what_is_below_the_threshold_recommends_nothing(api: Live) -> None:
    """Advice of an alert is for those who would have one."""
    scores = api.post("/v1/score-user", {"userId": "calm"}).json["scores"]
    assert [score["recommendation"] for score in scores if score["score"] < score["threshold"]] == [None]


def test_the_engine_looks_at_a_person_when_asked(api: Live) -> None:
    """The answer has signals, scores, and the alerts that opened by it, which are then in the list; else none."""
    answer = api.post("/v1/process-signals", {"userId": "keen"})
    assert answer.status == 200
    told = answer.json
    assert max(signal["strength"] for signal in told["signals"]) > 0
    (opened,) = told["alerts"]
    assert (opened["type"], opened["score"]) == ("LIKELY_TO_SELL", told["scores"][0]["score"])
    soon(lambda: [a["id"] for a in api.ask("GET", "/v1/users/keen/alerts").json["alerts"]] == [opened["id"]])
    again = api.post("/v1/process-signals", {"userId": "calm"})
    assert (again.status, again.json["alerts"]) == (200, [])


def test_a_look_is_counted_as_an_event_is(api: Live) -> None:
    """Nothing is silent: accepted and processed grow alike, whoever asks how often."""
    before = [counted(api, what) for what in ("accepted", "processed")]
    for _ in range(3):
        assert api.post("/v1/process-signals", {"userId": "calm"}).status == 200
    assert [counted(api, what) for what in ("accepted", "processed")] == [before[0] + 3, before[1] + 3]


@pytest.mark.parametrize("path", ["/v1/score-user", "/v1/process-signals"])
def test_of_whom_nothing_is_known_nothing_is_said(api: Live, path: str) -> None:
    """404 for nobody, 422 for a body that names nobody."""
    assert api.post(path, {"userId": "nobody"}).status == 404
    for body in ({}, {"userId": ""}, {"userId": None}, {"user": "keen"}):
        assert api.post(path, body).status == 422, body


def test_who_is_active_is_counted(api: Live) -> None:
    """By organisation: whoever did something in the last year, of everybody where there are few."""
    with connect(api.settings) as client:
        found = active(client, open_store(client), Vocabulary(), NOW)
    assert (found.people, found.share) == ({"main": 2}, 1.0)
    load = api.ask("GET", "/v1/alerts/stats").json["load"]
    assert (load["active_people"], load["sample"]) == (2, 1.0)
    assert load["alerts_a_year"] > load["budget"]
