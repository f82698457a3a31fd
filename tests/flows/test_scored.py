"""What the stream last scored: beside the person's features, in the write that made it, and in the lake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import redis

from feature_repo import keys
from feature_repo.declare import Service
from feature_repo.layout import entity_key
from feature_repo.settings import Settings
from flows import scored
from flows.lake_read import LakeReader
from flows.scored import Last, LastScores
from flows.scoring import Evaluated
from tests.flows import streams_made as made
from tests.flows.both_sides import VOCABULARY
from tests.flows.ground import Ground, event
from tests.flows.made_models import logistic
from tests.flows.streams_made import START

SELL, BUY = (s for s in VOCABULARY.services if s.name in ("likely_to_sell", "likely_to_buy"))
ALERTS = [s.name for s in VOCABULARY.services if s.alert]
SPIKE = "doc_access_count_30d"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """The lake follows everybody."""
    return msgspec.structs.replace(settings, lake_features=1.0)


@pytest.fixture
def ground(client: redis.Redis, settings: Settings) -> Ground:
    return Ground(client, settings)


def last(client: redis.Redis, user: str) -> list[Last]:
    key = entity_key(VOCABULARY.join_key, f"org/{user}".encode())
    told: Any = client.hgetall(keys.SCORE_SETS)
    sets = {int(set_): scored.members(value) for set_, value in told.items()}
    return scored.read(client.hmget(key, scored.names(len(ALERTS))), sets)


def expected(ground: Ground, user: str, slope: float, middle: float) -> float:
    value = ground.features(user)[SPIKE]
    assert value is not None
    return float(1 / (1 + np.exp(-slope * (value - middle))))


def test_everybody_s_last_score_stands_beside_their_features(
    ground: Ground, client: redis.Redis, tmp_path: Path
) -> None:
    """Of each model its version and answer to the very features that stand there, as of their moment."""
    models = {
        SELL.name: logistic(tmp_path, SELL, SPIKE, 1.0, 2.0, 2.0),
        BUY.name: logistic(tmp_path, BUY, SPIKE, -1.0, 1.0, 2.0),
    }
    engine = ground.engine(models=models)
    rng = np.random.default_rng(4)
    for batch in np.array_split(np.array(made.random_events(VOCABULARY, rng, 200, 12, 40), object), 4):
        ground.post(*batch)
        made.drain(engine)
    for user in {e.user for e in ground.events}:
        sell, buy = last(client, user)
        assert (sell.model, buy.model, sell.version) == (SELL.name, BUY.name, models[SELL.name].version)
        assert sell.at == buy.at == made.feature_time(client, VOCABULARY, user)
        assert sell.calibrated == sell.raw == pytest.approx(expected(ground, user, 1.0, 2.0), abs=1e-6)
        assert buy.calibrated == pytest.approx(expected(ground, user, -1.0, 1.0), abs=1e-6)


def test_a_hash_stays_small_and_is_written_once(ground: Ground, client: redis.Redis, tmp_path: Path) -> None:
    """With all alert models; the new field is none that somebody else took away, so nothing is written again."""
    services = [s for s in VOCABULARY.services if s.alert]
    engine = ground.engine(models={s.name: logistic(tmp_path, s, SPIKE, 1.0, 2.0, 2.0) for s in services})
    for turn in range(3):
        ground.post(event("u1", START + turn, turn))
        made.drain(engine)
        assert not engine.people.dirty.any()
        assert engine.written_users == turn + 1
    key = entity_key(VOCABULARY.join_key, b"org/u1")
    assert client.object("encoding", key) == b"listpack"
    assert [found.model for found in last(client, "u1")] == ALERTS


def test_history_is_not_scored_and_keeps_what_was(ground: Ground, client: redis.Redis, tmp_path: Path) -> None:
    """Nor does it make a hash look as if somebody had changed it."""
    engine = ground.engine(models={SELL.name: logistic(tmp_path, SELL, SPIKE, 1.0, 2.0, 2.0)})
    ground.post(event("u1", START, 1), history=True)
    made.drain(engine)
    assert last(client, "u1") == []
    ground.post(event("u1", START + 1, 2))
    made.drain(engine)
    before = last(client, "u1")
    ground.post(event("u1", START + 2, 3), history=True)
    made.drain(engine)
    assert len(before) == 1
    assert last(client, "u1") == before
    assert engine.written_users == 3


def test_a_new_version_is_told_with_its_scores(ground: Ground, client: redis.Redis, tmp_path: Path) -> None:
    """Whoever was not scored since keeps the version that scored them."""
    engine = ground.engine(models={SELL.name: logistic(tmp_path, SELL, SPIKE, 1.0, 2.0, 2.0)})
    ground.post(event("u1", START, 1), event("u2", START, 2))
    made.drain(engine)
    newer = logistic(tmp_path, SELL, SPIKE, 2.0, 2.0, 2.0, version="20260202000000")
    engine._scorer.models = {SELL.name: newer}
    ground.post(event("u1", START + 1, 3))
    made.drain(engine)
    assert [found.version for user in ("u1", "u2") for found in last(client, user)] == [newer.version, "20260101000000"]


def test_the_lake_keeps_the_scores_of_whom_it_follows(
    ground: Ground, client: redis.Redis, settings: Settings, tmp_path: Path
) -> None:
    """In columns beside the features; nobody's where nobody was scored."""
    engine = ground.engine(models={SELL.name: logistic(tmp_path, SELL, SPIKE, 1.0, 2.0, 2.0)})
    ground.post(event("u0", START, 0), history=True)
    made.drain(engine)
    told = []
    for turn in range(4):
        ground.post(event("u1", START + turn, turn + 1))
        made.drain(engine)
        told += [(found.calibrated, found.raw, found.version) for found in last(client, "u1")]
    reader = LakeReader(settings.lake, VOCABULARY, ground.store, client)
    rows = reader.served("SELECT * FROM served ORDER BY event_timestamp").to_pylist()
    columns = [f"{SELL.name}__{what}" for what in ("score", "raw", "version")]
    assert [tuple(row[c] for c in columns) for row in rows if row["user"] == "u1"] == told
    assert [tuple(row[c] for c in columns) for row in rows if row["user"] == "u0"] == [(None, None, None)]


def test_more_models_take_more_fields(client: redis.Redis, tmp_path: Path) -> None:
    """None of them large enough to make the hash a larger one."""
    services = [Service(name=f"m{i}", features=SELL.features, description="", alert=f"M{i}") for i in range(14)]
    models = {s.name: logistic(tmp_path, s, SPIKE, 1.0, 2.0, 2.0) for s in services[1:]}  # the first has none
    scores = {name: (np.full(2, i, np.float32), np.array([i / 2, np.nan], np.float32)) for i, name in enumerate(models)}
    scores["m5"][0][1] = np.nan
    evaluated = Evaluated([], np.arange(2), np.zeros((2, 1)), models, scores)
    made_ = LastScores([s.name for s in services], client).of(evaluated, np.array([5, 6]))
    assert scored.names(len(services)) == [b"_scores", b"_scores1", b"_scores2"]
    parts = made_.fields[0].split(b"\r\n")
    fields = dict(zip(parts[1::4], parts[3::4], strict=True))
    assert max(map(len, fields.values())) <= 64
    sets = {int(made_.sets[0]): scored.members(client.hget(keys.SCORE_SETS, str(made_.sets[0])))}
    found = scored.read([fields[name] for name in scored.names(14)], sets)
    assert found == [Last(f"m{i + 1}", "20260101000000", 5, float(i), i / 2) for i in range(13)]


@pytest.mark.parametrize("damaged", [b"x", b"\0" * 11, b"\0" * 13, b"\0" * 16])
def test_a_field_of_another_length_tells_nothing(damaged: bytes) -> None:
    assert scored.read([damaged], {0: [scored.Member("m", "v")]}) == []
