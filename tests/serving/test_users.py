"""What the API knows of a person: Feast's bytes read back, and the models' scores of them."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import quote

import numpy as np
import pytest

from feature_repo.layout import double, entity_key, field, timestamp, timestamp_field
from feature_repo.vocabulary import Vocabulary
from onnx_models import registry
from tests.live import Live
from tests.logged import Log

VOCABULARY = Vocabulary()
AT = 1_750_000_000_123
VALUES = {feature.name: 0.5 + i for i, feature in enumerate(VOCABULARY.features)}


def written(log: Log, user: str, organisation: str = "main", at: int = AT, **values: float) -> None:
    """As the engine writes it; `values`: where they are others."""
    fields = {field(VOCABULARY.view, name): double(value) for name, value in (VALUES | values).items()}
    key = entity_key(VOCABULARY.join_key, f"{organisation}/{user}".encode())
    log.client.hset(key, mapping={**fields, timestamp_field(VOCABULARY.view): timestamp(at)})


@pytest.mark.parametrize("user", ["known", "a b/c%25", "ümläut", "anon:x"])
def test_features_come_with_their_unit_and_moment(api: Live, log: Log, user: str) -> None:
    """Whatever characters the id has."""
    written(log, user)
    told = api.ask("GET", f"/v1/users/{quote(user, safe='')}/features").json
    assert told["user"] == user
    assert datetime.fromisoformat(told["at"]) == datetime.fromtimestamp(AT / 1000, UTC)
    assert {name: known["value"] for name, known in told["features"].items()} == VALUES
    first = VOCABULARY.features[0]
    assert told["features"][first.name] == {
        "value": VALUES[first.name],
        "unit": first.unit,
        "window": first.window,
        "description": first.description,
    }


@pytest.mark.parametrize("route", ["features", "scores"])
def test_nobody_is_a_404(api: Live, log: Log, route: str) -> None:
    """Somebody of another organisation is nobody, too."""
    written(log, "theirs", "other")
    for user in ("nobody", "theirs"):
        answer = api.ask("GET", f"/v1/users/{user}/{route}")
        assert (answer.status, answer.json["field"]) == (404, "id")


def test_scores_are_those_of_the_newest_models(api: Live, log: Log) -> None:
    """Every service that alerts has a score, equal to its model's own answer, or the reason why it has none."""
    written(log, "scored")
    told = api.ask("GET", "/v1/users/scored/scores").json
    found = {score["model"]: score for score in told["scores"]}
    services = [service for service in VOCABULARY.services if service.alert]
    for service in services:
        if not registry.versions(service.name):
            assert "found none" in told["refused"][service.name]
            continue
        model = registry.newest(service.name)
        row = np.array([[VALUES[name] for name in service.features]], np.float32)
        raw, calibrated = model.scores(row)
        score = found[service.name]
        assert (score["version"], score["threshold"]) == (model.version, model.threshold)
        assert score["score"] == pytest.approx(float(calibrated[0]), abs=1e-6)
        assert score["raw"] == pytest.approx(float(raw[0]), abs=1e-6)
        assert 0 < len(score["reasons"]) <= 5
        assert all(reason["says"] and reason["contribution"] for reason in score["reasons"])
    assert len(told["scores"]) + len(told["refused"]) == len(services)
