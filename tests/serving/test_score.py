"""`POST /v1/score/{model}`: the model's own answer of what is known, was given or both, and what stood for the rest."""

from __future__ import annotations

import base64
import gzip
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import redis

from feature_repo import keys
from feature_repo.layout import double, entity_key, field, integer, timestamp, timestamp_field
from feature_repo.settings import Settings
from feature_repo.vocabulary import Vocabulary
from flows.predictions import Predictions, decode
from onnx_models import card, registry
from onnx_models.confidence import confidence
from onnx_models.library import Library
from onnx_models.making import making
from serving.metrics_read import values
from serving.score_messages import MOST
from tests.flows.made_models import logistic
from tests.live import Live, live
from tests.logged import Log

VOCABULARY = Vocabulary()
SELL, LEAD = (next(s for s in VOCABULARY.services if s.name == name) for name in ("likely_to_sell", "lead_score"))
PATH = "/v1/score/likely_to_sell"
TENSOR = {"inputs": [{"name": "features", "datatype": "FP32", "shape": [1, 45], "data": [0.5] * 45}]}
VALUES = {name: float(i % 7) for i, name in enumerate(SELL.features)}
NEW, NEWER = "29990101000000", "29990201000000"  # than what ships
DEFAULTS = {name: VOCABULARY.default(name) for name in SELL.features}


def stored(log: Log, view: str, whose: str, values: Mapping[str, float], at: int | None = None) -> None:
    """As engine or push write it; `at`: ms, by default now."""
    declared = VOCABULARY.views[view]
    key = entity_key(VOCABULARY.entity_of(declared).join_key, f"main/{whose}".encode())
    kinds = {f.name: f.kind for f in declared.fields}
    cells = {
        field(view, name): integer(int(value)) if kinds[name] == "integer" else double(value)
        for name, value in values.items()
    }
    now = time.time_ns() // 1_000_000
    log.client.hset(key, mapping={**cells, timestamp_field(view): timestamp(now if at is None else at)})


def known(log: Log, user: str, at: int | None = None) -> None:
    stored(log, VOCABULARY.view, user, VALUES, at)


def answer(values: Mapping[str, float]) -> tuple[float, float]:
    """(raw, probability) as the model itself answers."""
    raw, probability = registry.newest("likely_to_sell").scores(np.array([[*values.values()]], np.float32))
    return float(raw[0]), float(probability[0])


def sure(probability: float, known_share: float) -> float:
    return float(confidence(np.array([probability]), np.array([known_share]))[0])


def test_somebody_known_is_scored_as_the_model_does(api: Live, log: Log) -> None:
    """On the features that are stored; nothing is defaulted, so the confidence is that of the probability."""
    known(log, "known")
    found = api.post(PATH, {"id": "known"}).json
    raw, probability = answer(VALUES)
    assert (found["raw"], found["probability"]) == (raw, probability)
    assert found["score"] == round(100 * probability, 2)
    assert found["confidence"] == pytest.approx(sure(probability, 1.0))
    assert (found["id"], found["model"], found["version"]) == ("known", SELL.name, registry.newest(SELL.name).version)
    assert found["defaulted"] == []
    assert found["features_at"]["view"] == VOCABULARY.view
    assert 0 <= found["features_at"]["age_seconds"] < 60
    assert found["took_ms"] > 0


def test_defaults_stand_for_what_is_not_known_and_are_named(api: Live) -> None:
    """A user whom nobody knows is no error."""
    found = api.post(PATH, {"id": "nobody at all"}).json
    assert (found["raw"], found["probability"]) == answer(DEFAULTS)
    assert found["defaulted"] == list(SELL.features)
    assert (found["confidence"], found["features_at"]) == (0.5, None)


def test_what_is_given_wins(api: Live, log: Log) -> None:
    """Under the input's name, or with its view; the rest is looked up."""
    known(log, "given")
    given = {"session_count_30d": 50, "user_features:active_days_30d": 12.5}
    found = api.post(PATH, {"id": "given", "features": given}).json
    assert found["probability"] == answer(VALUES | {"session_count_30d": 50.0, "active_days_30d": 12.5})[1]
    assert found["defaulted"] == []
    alone = api.post(PATH, {"features": given}).json
    assert alone["probability"] == answer(DEFAULTS | {"session_count_30d": 50.0, "active_days_30d": 12.5})[1]
    assert set(alone["defaulted"]) == {*SELL.features} - {"session_count_30d", "active_days_30d"}
    importance = registry.newest("likely_to_sell").metadata.importance or dict.fromkeys(
        SELL.features, 1 / len(SELL.features)
    )
    share = importance["session_count_30d"] + importance["active_days_30d"]
    assert alone["confidence"] == pytest.approx(0.5 + abs(alone["probability"] - 0.5) * share)


def test_what_is_too_old_is_not_known(api: Live, log: Log) -> None:
    """As the feature doors tell it: beyond the view's time to live."""
    days = VOCABULARY.views[VOCABULARY.view].ttl_days
    known(log, "stale", at=time.time_ns() // 1_000_000 - (days * 24 + 1) * 3_600_000)
    assert api.post(PATH, {"id": "stale"}).json["defaulted"] == list(SELL.features)


def test_what_is_no_number_is_not_known(api: Live, log: Log) -> None:
    """Whatever somebody wrote there; and whoever is asked for in the same moment is answered."""
    known(log, "odd")
    key = entity_key(VOCABULARY.join_key, b"main/odd")
    odd = (
        b"",
        b")",
        b"\x20" + b"\xff" * 200,
        b"\x12\x02hi",
        b"\x12\x01\xff",
        b"\x12\x07seven!!",
        double(math.nan),
        b"?",
    )
    names = SELL.features[: len(odd)]
    log.client.hset(key, mapping={field(VOCABULARY.view, n): value for n, value in zip(names, odd, strict=True)})
    found = api.post(PATH, {"instances": [{"id": "odd"}, {"id": "nobody"}]}).json["predictions"]
    assert found[0]["defaulted"] == list(names)
    assert found[0]["probability"] == answer(VALUES | {n: DEFAULTS[n] for n in names})[1]
    assert found[1]["probability"] == answer(DEFAULTS)[1]


def test_many_are_answered_in_their_order(api: Live, log: Log) -> None:
    """Each as if it were asked alone."""
    known(log, "one of many")
    asked = [{"id": "one of many"}, {"features": {"session_count_30d": 3}}, {"id": "nobody"}] * (MOST // 3)
    found = api.post(PATH, {"instances": asked}).json
    alone = [api.post(PATH, one).json for one in asked[:3]]
    assert len(found["predictions"]) == len(asked)
    assert len({one["prediction_id"] for one in found["predictions"]}) == len(asked)
    own = {"prediction_id", "features_at", "model", "version", "took_ms"}
    for i, one in enumerate(found["predictions"]):
        expected = {name: value for name, value in alone[i % 3].items() if name not in own}
        assert {name: one[name] for name in expected} == expected


def test_contributions_add_to_the_score(api: Live, log: Log) -> None:
    """With the bias they are the log odds of `raw`, exactly as the trees have them; strongest first."""
    known(log, "explained")
    for asked in ({"id": "explained", "explain": True}, {"instances": [{"id": "explained"}], "explain": True}):
        found = api.post(PATH, asked).json
        one = found["predictions"][0] if "instances" in asked else found
        added = [c["contribution"] for c in one["contributions"]]
        odds = one["bias"] + sum(added)
        assert 1 / (1 + math.exp(-odds)) == pytest.approx(one["raw"], abs=1e-5)
        assert [abs(c) for c in added] == sorted(map(abs, added), reverse=True)
        assert all(c["says"] and c["value"] == VALUES[c["feature"]] for c in one["contributions"])


@pytest.fixture(scope="module")
def lead(wall_door: tuple[Live, Log]) -> Live:
    """An API that scores leads by `messages_in`, with a version made here."""
    api, _ = wall_door
    logistic(api.settings.home / "onnx_models", LEAD, "lead_activity:messages_in", 0.5, 4.0, 0.5, version=NEW)
    deadline = time.monotonic() + 5
    while api.post("/v1/score/lead_score", {"id": "l"}).json["version"] != NEW:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return api


def test_features_of_several_views_and_of_the_request_come_together(lead: Live, log: Log) -> None:
    """Whole numbers too; the oldest view that was used is named, and what no view has is defaulted."""
    now = time.time_ns() // 1_000_000
    stored(log, "lead_activity", "l1", {"messages_in": 6, "engagement_rate": 0.5}, at=now - 3_600_000)
    stored(log, "lead_property", "l1", {"price": 250_000.0, "photos": 8}, at=now - 60_000)
    found = lead.post("/v1/score/lead_score", {"id": "l1", "features": {"days_since_creation": 3}}).json
    assert found["probability"] == pytest.approx(1 / (1 + math.exp(-0.5 * (6 - 4))), abs=1e-6)
    given = {"lead_activity:messages_in", "lead_activity:engagement_rate", "lead_property:price"}
    assert set(found["defaulted"]) == {*LEAD.features} - given - {"lead_property:photos", "request:days_since_creation"}
    assert found["features_at"]["view"] == "lead_activity"
    assert 3_600 <= found["features_at"]["age_seconds"] < 3_700


@pytest.mark.parametrize("name", ["messages_in", "lead_activity:messages_in"])
def test_an_input_may_be_given_with_and_without_its_view(lead: Live, name: str) -> None:
    """Where only one is called so."""
    found = lead.post("/v1/score/lead_score", {"features": {name: 4}}).json
    assert found["probability"] == pytest.approx(0.5, abs=1e-6)


def raw_json(text: str) -> Any:
    return msgspec.Raw(text.encode())


@pytest.mark.parametrize(
    ("body", "field_", "expected"),
    [
        ({}, "id", "expected an `id`, `features` or both, got neither"),
        ({"features": {}}, "id", "expected an `id`, `features` or both, got neither"),
        ({"id": ""}, "id", "expected 1 to 512 bytes"),
        ({"id": "x" * 600}, "id", "expected 1 to 512 bytes"),
        ({"id": ["x"]}, "id", "Expected `int | str | null`, got `array`"),
        (
            {"id": "x", "features": {"shoe_size": 1}},
            "features.shoe_size",
            "there is no input 'shoe_size'; there are doc",
        ),
        ({"features": {"session_count_30d": "3"}}, "features.session_count_30d", 'expected a finite number, got "3"'),
        ({"features": {"session_count_30d": None}}, "features.session_count_30d", "expected a finite number, got null"),
        ({"features": {"session_count_30d": True}}, "features.session_count_30d", "expected a finite number, got true"),
        (raw_json('{"features":{"session_count_30d":NaN}}'), "features.session_count_30d", "finite number, got NaN"),
        (raw_json('{"features":{"session_count_30d":1e999}}'), "features.session_count_30d", "number, got Infinity"),
        (
            raw_json('{"features":{"session_count_30d":1%s}}' % ("0" * 400)),
            "features.session_count_30d",
            "finite number",
        ),
        ({"features": {"session_count_30d": 1e300}}, "features.session_count_30d", "expected a number within 3.4"),
        (
            {"features": {"session_count_30d": 1, "user_features:session_count_30d": 2}},
            "features.user_features:session_count_30d",
            "session_count_30d is given twice",
        ),
        ({"instances": []}, "instances", "of length >= 1"),
        ({"instances": [{"id": "x"}] * 1001}, "instances", "expected at most 1000 instances, got 1001"),
        ({"instances": [{"id": "x"}, {}]}, "instances[1].id", "got neither"),
        ({"instances": [{"features": {"a": 1}}]}, "instances[0].features.a", "there is no input 'a'"),
        (
            {"instances": [{"id": "x"}, {"features": {"session_count_30d": []}}]},
            "instances[1].features.session_count_30d",
            "expected a finite number, got []",
        ),
        ({"id": "x", "instances": [{"id": "y"}]}, "instances", "got both"),
        ({"id": "x", "explane": True}, "body", "unknown field `explane`"),
        (raw_json("[1]"), "body", "Expected `object`"),
        (raw_json("{"), "body", "truncated"),
        (raw_json('{"features":' + '{"a":' * 100_000), "features[...]", "Expected `float`, got `object`"),
    ],
)
def test_what_cannot_be_scored_is_named(api: Live, body: Any, field_: str, expected: str) -> None:
    """The field, what was expected and what came."""
    found = api.post(PATH, body)
    assert (found.status, found.json["field"]) == (422, field_)
    assert expected in found.json["detail"]


def test_a_model_that_is_none_is_a_404(api: Live) -> None:
    """Which names those that there are."""
    found = api.post("/v1/score/likely_to_fly", {"id": "x"})
    assert (found.status, found.json["field"]) == (404, "model")
    assert "there are likely_to_sell" in found.json["detail"]
    assert api.ask("GET", PATH).status == 405


def test_a_model_without_a_version_is_a_404(client: redis.Redis, settings: Settings, tmp_path: Path) -> None:
    """Which says why there is none, while all else is answered."""
    place = tmp_path / "models"
    damaged = logistic(place, SELL, "session_count_30d", 1.0, 0.0, 0.5)
    (damaged.directory / card.ONNX).write_bytes(b"no model")
    with live(msgspec.structs.replace(settings, models=str(place))) as api:
        for name, why in ((SELL.name, "sha256"), ("likely_to_buy", "expected a version directory")):
            found = api.post(f"/v1/score/{name}", {"id": "x"})
            assert (found.status, found.json["field"]) == (404, "model")
            assert why in found.json["detail"]
        assert api.ask("GET", "/v2/health/ready", headers={}).status == 503
        assert api.ask("GET", "/v2/health/live", headers={}).status == 200


def test_a_request_that_is_no_shortcut_is_answered_alike(api: Live, log: Log) -> None:
    """Compressed, it takes the ordinary way."""
    known(log, "compressed")
    body = gzip.compress(msgspec.json.encode({"id": "compressed"}))
    found = api.ask("POST", PATH, body, {**api.login, "Content-Type": "application/json", "Content-Encoding": "gzip"})
    assert found.json["probability"] == answer(VALUES)[1]
    assert api.ask("POST", PATH, b"{}", {**api.login, "Content-Type": "text/html"}).status == 415


def test_organisations_do_not_see_each_other_s_people(api: Live, log: Log) -> None:
    """Whose key it is decides whose people are looked up; without a key nobody is."""
    known(log, "ours")
    log.client.hset(keys.KEYS, "key-of-others", "others")
    login = "Basic " + base64.b64encode(b"key-of-others:").decode()
    assert api.post(PATH, {"id": "ours"}, Authorization=login).json["defaulted"] == list(SELL.features)
    assert api.ask("POST", PATH, b'{"id":"ours"}', {"Content-Type": "application/json"}).status == 401


def test_an_age_is_by_the_log_s_time(past_api: Live, past_log: Log) -> None:
    """In a store that takes time from events."""
    at = 1_700_000_000_000
    track = {"userId": "u", "event": "Document Viewed", "timestamp": "2023-11-14T23:13:20Z"}  # an hour later
    assert past_api.post("/v1/track", track).status == 200
    known(past_log, "past", at=at)
    found = past_api.post(PATH, {"id": "past"}).json
    assert found["defaulted"] == []
    assert found["features_at"]["age_seconds"] == pytest.approx(3_600, abs=1)
    for asked in (past_api.post(PATH, {"features": VALUES}), past_api.post("/v2/models/likely_to_sell/infer", TENSOR)):
        assert asked.status == 200
    (entry,) = logged(past_log, {f"{asked.json['parameters']['prediction_id']}.0"})
    assert entry.at.max() == at + 3_600_000


def logged(log: Log, ids: set[str]) -> list[Predictions]:
    """The entries that hold these predictions, once all of them are there."""
    deadline = time.monotonic() + 5
    while True:
        found = [decode(fields) for _, fields in log.client.xrange(keys.PREDICTIONS)]
        mine = [entry for entry in found if ids & set(entry.words.ids)]
        if ids == {id_ for entry in mine for id_ in entry.words.ids} & ids:
            return mine
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_every_answer_is_written_down(api: Live, log: Log) -> None:
    """With the inputs as used and which were defaults, whose it was, and what came out."""
    known(log, "logged")
    one = api.post(PATH, {"id": "logged", "features": {"session_count_30d": 9}}).json
    other = api.post(PATH, {"features": {"session_count_30d": 9}}).json
    (entry,) = logged(log, {one["prediction_id"], other["prediction_id"]})
    i, k = (entry.words.ids.index(found["prediction_id"]) for found in (one, other))
    assert (entry.words.entities[i], entry.words.entities[k]) == ("logged", None)
    assert (entry.words.organisations[i], entry.head.model, entry.head.entity) == ("main", SELL.name, "user")
    assert entry.inputs[i].tolist() == [*(VALUES | {"session_count_30d": 9.0}).values()]
    assert not entry.defaulted[i].any()
    assert [n for n, d in zip(SELL.features, entry.defaulted[k], strict=True) if d] == other["defaulted"]
    assert entry.scores[:3, i].tolist() == [one["probability"], one["raw"], one["confidence"]]
    assert np.isnan(entry.scores[3, i])
    assert abs(int(entry.at[i]) - time.time() * 1000) < 60_000
    metrics = api.ask("GET", "/metrics").body.decode()
    assert sum(values(metrics, "telltale_predictions_logged_total")) >= len(entry)
    assert values(metrics, "telltale_predictions_dropped_total") == [0]


def test_a_shadow_scores_the_same_rows(lead: Live, log: Log) -> None:
    """Its answer is written down beside, made after ours has left."""
    library = Library.of(lead.settings)
    place = lead.settings.home / "onnx_models"
    with making(library, LEAD.name, NEWER):
        library.register(LEAD.name, NEWER, "TRAINING", "test", "to see")
        shadow = logistic(place, LEAD, "lead_activity:messages_in", 1.0, 2.0, 0.5, version=NEWER)
        library.register(LEAD.name, NEWER, "SHADOW", "test", "to see")
    deadline = time.monotonic() + 5
    while True:
        found = lead.post("/v1/score/lead_score", {"features": {"messages_in": 6}}).json
        (entry,) = logged(log, {found["prediction_id"]})
        if entry.head.shadow:
            break
        assert time.monotonic() < deadline
    assert (found["version"], entry.head.shadow) == (NEW, shadow.version)
    i = entry.words.ids.index(found["prediction_id"])
    assert entry.scores[0, i] == pytest.approx(1 / (1 + math.exp(-0.5 * (6 - 4))), abs=1e-6)
    assert entry.scores[3, i] == pytest.approx(1 / (1 + math.exp(-1.0 * (6 - 2))), abs=1e-6)
