"""`GET /v1/scores/{user}`: what the stream said last, and before, as it stands in the store and in the lake."""

from __future__ import annotations

import base64
import math
from datetime import datetime
from pathlib import Path

import msgspec
import pytest
import redis

from feature_repo import keys
from feature_repo.settings import Settings
from tests.flows import streams_made as made
from tests.flows.both_sides import VOCABULARY
from tests.flows.ground import Ground, event
from tests.flows.made_models import logistic
from tests.flows.streams_made import START
from tests.live import live

SELL, BUY = (s for s in VOCABULARY.services if s.name in ("likely_to_sell", "likely_to_buy"))


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """The lake follows everybody."""
    return msgspec.structs.replace(settings, lake_features=1.0)


def test_the_last_scores_and_those_before(client: redis.Redis, settings: Settings, tmp_path: Path) -> None:
    """Of each model, as the engine wrote them; nothing is scored for it, and nobody else's are shown."""
    ground = Ground(client, settings)
    slopes = {SELL: 1.0, BUY: 0.5}
    models = {s.name: logistic(tmp_path, s, "doc_access_count_30d", slope, 2.0, 2.0) for s, slope in slopes.items()}
    engine = ground.engine(models=models)
    for turn in range(3):
        ground.post(event("ann", START + turn * 1000, turn), event("bob", START + turn * 1000, 10 + turn))
        made.drain(engine)
    client.hset(keys.KEYS, "key-of-org", "org")
    with live(settings) as api:
        login = {"Authorization": "Basic " + base64.b64encode(b"key-of-org:").decode()}
        found = api.ask("GET", "/v1/scores/ann", headers=login).json
        assert [score["model"] for score in found["scores"]] == [SELL.name, BUY.name]  # highest first
        values = [1 / (1 + math.exp(-slope * (3 - 2))) for slope in (1.0, 0.5)]
        assert [score["score"] for score in found["scores"]] == pytest.approx(values, abs=1e-6)
        assert {score["version"] for score in found["scores"]} == {models[SELL.name].version}
        assert {datetime.fromisoformat(score["at"]).timestamp() for score in found["scores"]} == {(START + 2000) / 1000}
        told = [(s["model"], datetime.fromisoformat(s["at"]).timestamp() * 1000) for s in found["history"]]
        expected = [(m.name, START + turn * 1000) for turn in (2, 1, 0) for m in (SELL, BUY)]
        assert (sorted(told), found["followed"]) == (sorted(expected), True)
        assert [at for _, at in told] == sorted((at for _, at in told), reverse=True)
        few = api.ask("GET", f"/v1/scores/ann?limit=2&since={START + 1000}", headers=login).json
        assert few["history"] == found["history"][:2]
        assert api.ask("GET", "/v1/scores/ann").status == 404  # of another organisation
        wrong = api.ask("GET", "/v1/scores/ann?limit=-1", headers=login)
        assert (wrong.status, wrong.json["field"]) == (400, "limit")
