"""What became of a prediction: told once, corrected by another record, and only of predictions that are ours."""

from __future__ import annotations

import base64
import contextlib
import sqlite3
from concurrent.futures import ThreadPoolExecutor

import pytest

from feature_repo import keys
from flows.prediction_id import PredictionIds
from tests.live import Live
from tests.logged import Log

MODEL = "/v1/score/likely_to_sell"
FEATURES = {"features": {"session_count_30d": 3}}


def predicted(api: Live, **more: str) -> str:
    return str(api.post(MODEL, FEATURES, **more).json["prediction_id"])


def records(api: Live, prediction: str) -> list[tuple[int, int]]:
    """(revision, outcome) as SQL has them."""
    with contextlib.closing(sqlite3.connect(api.settings.home / "telltale.db")) as connection:
        query = "SELECT revision, outcome FROM outcomes WHERE prediction_id = ? ORDER BY seq"
        return connection.execute(query, (prediction,)).fetchall()


def test_an_outcome_is_given_back_as_told(api: Live) -> None:
    """With all that was said of it, and which model had predicted when."""
    prediction = predicted(api)
    path = f"/v1/predictions/{prediction}/outcome"
    assert api.ask("GET", path).status == 404
    told = {"outcome": 1, "value": 12.5, "at": "2026-03-01T12:00:00+01:00", "notes": "sold"}
    answer = api.post(path, told)
    assert answer.status == 200
    assert api.ask("GET", path).json == answer.json
    assert (answer.json["model"], answer.json["prediction_id"]) == ("likely_to_sell", prediction)
    latest = answer.json["latest"]
    assert {name: latest[name] for name in told} == {**told, "at": "2026-03-01T11:00:00Z"}


def test_told_twice_it_is_stored_once_and_a_correction_is_another_record(api: Live) -> None:
    """The latest counts; what it corrects stays."""
    prediction = predicted(api)
    path = f"/v1/predictions/{prediction}/outcome"
    for outcome in (0, 0, 1, 1, 0):
        assert api.post(path, {"outcome": outcome}).status == 200
    assert records(api, prediction) == [(0, 0), (1, 1), (2, 0)]
    found = api.ask("GET", path).json
    assert [found["latest"]["outcome"], *(one["outcome"] for one in found["corrected"])] == [0, 1, 0]


def test_many_at_once_say_the_same_once(api: Live) -> None:
    """A retry may race the request that it repeats."""
    prediction = predicted(api)
    with ThreadPoolExecutor(6) as threads:
        answers = threads.map(lambda _: api.post(f"/v1/predictions/{prediction}/outcome", {"outcome": 1}), range(12))
        assert {answer.status for answer in answers} <= {200, 503}  # SQLite may be busy: come back
    assert records(api, prediction) == [(0, 1)]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"outcome": 2}, "outcome"),
        ({"outcome": True}, "outcome"),
        ({}, "outcome"),
        ({"outcome": 1, "value": "much"}, "value"),
        ({"outcome": 1, "at": "yesterday"}, "at"),
        ({"outcome": 1, "at": 10**18}, "at"),
        ({"outcome": 1, "note": ""}, "body"),
    ],
)
def test_what_cannot_be_read_is_named(api: Live, body: object, field: str) -> None:
    """And nothing is stored."""
    prediction = predicted(api)
    answer = api.post(f"/v1/predictions/{prediction}/outcome", body)
    assert (answer.status, answer.json["field"]) == (422, field)
    assert records(api, prediction) == []


def test_an_id_that_is_not_ours_is_a_404(api: Live, log: Log) -> None:
    """Made up, changed, another organisation's, or beyond a batch's end."""
    prediction = predicted(api)
    many = api.post(MODEL, {"instances": [FEATURES, FEATURES]}).json["predictions"]
    last = str(many[-1]["prediction_id"])
    changed = prediction[:-1] + ("A" if prediction[-1] != "A" else "B")
    others = [
        "nonsense",
        changed,
        prediction + ".0",
        last[:-1] + "2",
        last[:-1] + "01",
        prediction.replace("sell", "buy"),
    ]
    for other in others:
        assert api.post(f"/v1/predictions/{other}/outcome", {"outcome": 1}).status == 404, other
    assert api.post(f"/v1/predictions/{last}/outcome", {"outcome": 1}).status == 200
    log.client.hset(keys.KEYS, "key-of-others", "others")
    login = "Basic " + base64.b64encode(b"key-of-others:").decode()
    assert api.post(f"/v1/predictions/{prediction}/outcome", {"outcome": 1}, Authorization=login).status == 404


def test_ids_of_a_store_are_unlike_those_of_another() -> None:
    """Each has a seed of its own; and no two requests share an id."""
    ours, theirs = PredictionIds(1), PredictionIds(2)
    issued = {ours.issue(b"main", "sell", 1_770_000_000_000) for _ in range(1000)}
    assert len(issued) == 1000
    read = [ours.read(b"main", one) for one in issued]
    assert all(one is not None and (one.model, one.at, one.index) == ("sell", 1_770_000_000_000, 0) for one in read)
    assert not any(theirs.read(b"main", one) for one in issued)
