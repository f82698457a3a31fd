"""The API answers as it describes itself, and to anybody whose key is good."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import quote

import jsonschema
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feature_repo import keys
from tests.live import Live
from tests.logged import Log
from tests.serving.test_ingest import JSON_KIND, basic, track
from tests.serving.test_users import written

FEATURES = {
    "entities": {"user_id": ["described", "undescribed"]},
    "features": ["user_features:session_count_30d"],
    "include_feature_view_version_metadata": True,
}


TENSOR = {"inputs": [{"name": "features", "datatype": "FP32", "shape": [1, 45], "data": [[0.5] * 45]}]}


def written_lead(view: str, score: object = 1.5) -> dict[str, object]:
    """A row of a lead, for that view."""
    values = {"days_since_contact": [1], "engagement_score": [score], "source_quality": [None]}
    return {"feature_view_name": view, "df": {"lead_id": ["l"], "event_timestamp": ["2026-01-01"], **values}}


CALLS = ("/v1/track", "/v1/identify")  # whose path says the type
ASKED: list[tuple[str, str, str, Any, int]] = [
    ("post", "/v1/track", "/v1/track", track("described"), 200),
    ("post", "/v1/track", "/v1/track", {"userId": "described", "event": "Unheard Of"}, 200),
    ("post", "/v1/track", "/v1/track", {}, 400),
    ("post", "/v1/identify", "/v1/identify", {"userId": "described", "traits": {"property_count": 1}}, 200),
    ("post", "/v1/batch", "/v1/batch", {"batch": [track("described"), {"type": "track"}]}, 200),
    ("post", "/v1/batch", "/v1/batch", {"batch": [{"type": "track"}]}, 400),
    ("get", "/v1/users/{id}/features", "/v1/users/described/features", None, 200),
    ("get", "/v1/users/{id}/features", "/v1/users/undescribed/features", None, 404),
    ("get", "/v1/users/{id}/scores", "/v1/users/described/scores", None, 200),
    ("get", "/v1/scores/{id}", "/v1/scores/described", None, 200),
    ("get", "/v1/scores/{id}", "/v1/scores/undescribed", None, 404),
    ("post", "/v1/score/{model}", "/v1/score/likely_to_sell", {"id": "described", "explain": True}, 200),
    ("post", "/v1/score/{model}", "/v1/score/likely_to_sell", {"instances": [{"id": "described"}, {"id": 5}]}, 200),
    ("post", "/v1/score/{model}", "/v1/score/likely_to_sell", {}, 422),
    ("post", "/v1/score/{model}", "/v1/score/likely_to_fly", {"id": "described"}, 404),
    ("get", "/v1/predictions/{id}/outcome", "/v1/predictions/none/outcome", None, 404),
    ("get", "/v2", "/v2", None, 200),
    ("get", "/v2/models/{model}", "/v2/models/likely_to_sell", None, 200),
    ("get", "/v2/models/{model}", "/v2/models/likely_to_fly", None, 404),
    ("get", "/v2/models/{model}/ready", "/v2/models/likely_to_sell/ready", None, 200),
    ("post", "/v2/models/{model}/infer", "/v2/models/likely_to_sell/infer", TENSOR, 200),
    ("post", "/v2/models/{model}/infer", "/v2/models/likely_to_sell/infer", {"inputs": []}, 400),
    ("get", "/v1/alerts", "/v1/alerts", None, 200),
    ("get", "/v1/alerts", "/v1/alerts?by=ann", None, 200),
    ("get", "/v1/alerts/unread", "/v1/alerts/unread", None, 200),
    ("post", "/v1/alerts/read-all", "/v1/alerts/read-all", {"by": "ann"}, 200),
    ("get", "/v1/alerts/{id}/deliveries", "/v1/alerts/none/deliveries", None, 404),
    ("post", "/v1/recipients", "/v1/recipients", {"name": "ann", "email": "ann@example.org"}, 200),
    ("post", "/v1/recipients", "/v1/recipients", {"name": "ann", "email": "ann"}, 422),
    ("get", "/v1/recipients", "/v1/recipients", None, 200),
    ("post", "/v1/routing-rules", "/v1/routing-rules", {"name": "all", "continue": True}, 200),
    ("get", "/v1/routing-rules", "/v1/routing-rules", None, 200),
    ("post", "/v1/crm", "/v1/crm", {"name": "hub", "url": "https://example.org/{user}", "constants": {"/a": [1]}}, 200),
    ("get", "/v1/crm", "/v1/crm", None, 200),
    ("post", "/v1/replies", "/v1/replies", {"to": ["ann@example.org"]}, 404),
    ("get", "/v1/alerts/stats", "/v1/alerts/stats", None, 200),
    ("get", "/v1/alerts/stats", "/v1/alerts/stats?since=soon", None, 400),
    ("get", "/v1/users/{id}/alerts", "/v1/users/described/alerts", None, 200),
    ("patch", "/v1/alerts/status", "/v1/alerts/status", {"ids": ["al_1"], "status": "DISMISSED"}, 200),
    ("patch", "/v1/alerts/{id}/status", "/v1/alerts/al_1/status", {"status": "DISMISSED"}, 404),
    ("patch", "/v1/alerts/{id}/status", "/v1/alerts/al_1/status", {"status": "GONE"}, 422),
    ("get", "/v1/alerts/{id}/history", "/v1/alerts/al_1/history", None, 404),
    ("post", "/v1/alerts/outcome", "/v1/alerts/outcome", {"ids": ["al_1"], "outcome": "TRUE_POSITIVE"}, 200),
    ("post", "/v1/alerts/{id}/outcome", "/v1/alerts/al_1/outcome", {"outcome": "TRUE_POSITIVE"}, 404),
    ("get", "/v1/alerts/{id}/outcome", "/v1/alerts/al_1/outcome", None, 404),
    ("get", "/v1/models/performance", "/v1/models/performance", None, 200),
    ("post", "/v1/score-user", "/v1/score-user", {"userId": "described"}, 200),
    ("post", "/v1/score-user", "/v1/score-user", {"userId": "undescribed"}, 404),
    ("post", "/v1/process-signals", "/v1/process-signals", {"userId": "described"}, 202),
    ("post", "/v1/process-signals", "/v1/process-signals", {}, 422),
    ("get", "/v1/models", "/v1/models", None, 200),
    ("get", "/v1/models/{name}", "/v1/models/likely_to_sell", None, 200),
    ("get", "/v1/models/{name}", "/v1/models/likely_to_sail", None, 404),
    ("get", "/v1/models/{name}/versions", "/v1/models/likely_to_sell/versions", None, 200),
    ("get", "/v1/models/{name}/importance", "/v1/models/likely_to_sell/importance", None, 200),
    ("get", "/v1/models/{name}/performance", "/v1/models/likely_to_sell/performance", None, 200),
    ("get", "/v1/models/{name}/train", "/v1/models/likely_to_sell/train", None, 200),
    ("post", "/v1/models/{name}/promote", "/v1/models/likely_to_sell/promote", {"version": "20000101000000"}, 404),
    ("post", "/v1/models/{name}/reload", "/v1/models/likely_to_sail/reload", {}, 404),
    ("post", "/v1/models/{name}/train", "/v1/models/likely_to_sell/train", {"people": 1}, 422),
    ("get", "/healthz", "/healthz", None, 200),
    ("post", "/get-online-features", "/get-online-features", FEATURES, 200),
    ("post", "/get-online-features", "/get-online-features", {**FEATURES, "features": ["a:b"]}, 404),
    ("post", "/get-online-features", "/get-online-features", {**FEATURES, "entities": {}}, 422),
]


@pytest.mark.parametrize(("method", "described", "path", "message", "status"), ASKED)
def test_answers_are_what_the_description_says(
    api: Live, log: Log, method: str, described: str, path: str, message: object, status: int
) -> None:
    """Status, type and shape stand in /openapi.json; and what is accepted fits the described request."""
    written(log, "described")
    document = api.ask("GET", "/openapi.json").json
    operation = document["paths"][described][method]
    body = None if message is None else msgspec.json.encode(message)
    answer = api.ask(method.upper(), path, body, {**api.login, **JSON_KIND} if body else None)
    assert answer.status == status
    content = operation["responses"][str(status)]["content"]
    assert answer.headers["content-type"] in content
    assert wrong(document, content[answer.headers["content-type"]]["schema"], answer.json) == []
    if status == 200 and message is not None and described != "/v1/batch":
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        kind = {"type": path.rpartition("/")[2]} if described in CALLS else {}
        assert wrong(document, schema, {**kind, **message}) == []  # type: ignore[dict-item]


def wrong(document: dict[str, Any], schema: dict[str, Any], value: object) -> list[str]:
    """What of the value is not as the schema says."""
    validator = jsonschema.Draft202012Validator({**schema, "components": document["components"]})
    return [error.message for error in validator.iter_errors(value)]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(user=st.text(min_size=1, max_size=40) | st.binary(min_size=1, max_size=20))
def test_any_id_of_a_person_can_be_asked_for(api: Live, user: str | bytes) -> None:
    """Slashes, control characters, bytes that are no text: nobody is known by that name, and nothing breaks."""
    id_ = quote(user, safe="")
    for path in (*(f"/v1/users/{id_}/{route}" for route in ("features", "scores", "signals")), f"/v1/scores/{id_}"):
        assert api.ask("GET", path).status == 404


def test_a_key_taken_away_is_refused_within_a_second_or_so(api: Live, log: Log) -> None:
    """And a new one works at once, for its own organisation."""
    log.client.hset(keys.KEYS, "brief", "briefly")
    headers = {**JSON_KIND, "Authorization": basic("brief")}
    body = b'{"userId":"u","event":"Document Viewed"}'
    assert api.ask("POST", "/v1/track", body, headers).status == 200
    assert len(log.events("u", "briefly")) == 1
    log.client.hdel(keys.KEYS, "brief")
    began = time.monotonic()
    while api.ask("POST", "/v1/track", body, headers).status != 401:
        assert time.monotonic() - began < 3
        time.sleep(0.05)


def test_one_organisation_cannot_pose_as_another(api: Live, log: Log) -> None:
    """A name with a slash in it would blur whose people are whose."""
    log.client.hset(keys.KEYS, "slashed", "main/x")
    answer = api.ask(
        "POST", "/v1/track", b'{"userId":"u","event":"x"}', {**JSON_KIND, "Authorization": basic("slashed")}
    )
    assert answer.status == 401
    log.client.hdel(keys.KEYS, "slashed")


@pytest.mark.parametrize("path", ["/v1/crm", "/v1/alerts/{id}/outcome", "/v1/alerts/outcome", "/v1/alerts/{id}/read"])
def test_another_method_is_told_which_there_are(api: Live, path: str) -> None:
    """All of the path's, not those of the route that comes first."""
    document = api.ask("GET", "/openapi.json").json
    answer = api.ask("OPTIONS", path.replace("{id}", "al_1"))
    assert answer.status == 405
    assert set(answer.headers["allow"].lower().split(", ")) - {"head"} == set(document["paths"][path])


@pytest.mark.parametrize(("path", "method"), [("/v1/alerts/read-all", "post"), ("/v1/crm/{id}", "patch")])
def test_a_body_that_may_lack_is_described_so(api: Live, path: str, method: str) -> None:
    """None at all is as `{}`."""
    operation = api.ask("GET", "/openapi.json").json["paths"][path][method]
    assert not operation["requestBody"]["required"]
    assert api.ask(method.upper(), path.replace("{id}", "crm_1")).status in {200, 404}


def test_the_type_of_a_call_may_be_told_by_its_path(api: Live) -> None:
    """Alone at a door of its own; in a batch it is needed."""
    document = api.ask("GET", "/openapi.json").json
    (body,) = document["paths"]["/v1/track"]["post"]["requestBody"]["content"].values()
    assert body["schema"]["required"] == ["event"]
    assert "type" in document["components"]["schemas"]["Track"]["required"]


@pytest.mark.parametrize(
    "query", ["cursor=1", "cursor=1-", "cursor=1-2-3", "cursor=-1-2", "cursor=1234567890123456789-1"]
)
def test_a_cursor_is_what_next_gave(api: Live, query: str) -> None:
    assert api.ask("GET", f"/v1/alerts?{query}").json["field"] == "cursor"
