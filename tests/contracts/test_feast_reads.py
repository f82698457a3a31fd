"""Feast's own SDK, configured as its user would, reads what the flow wrote. Importing it takes seconds: only here."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis

from feature_repo.layout import PROJECT
from feature_repo.settings import Settings
from flows.store import Embedded, create
from tests.flows import streams_made as made
from tests.flows.both_sides import VOCABULARY

NAMES = [f"{VOCABULARY.view}:{feature.name}" for feature in VOCABULARY.features]


@pytest.fixture(scope="module")
def repository(valkey: Embedded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A FeatureStore over the shared Valkey, with the view that the flow writes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Feast's own
        yield _repository(tmp_path_factory.mktemp("feast"), valkey.where.port)


def _repository(place: Path, port: int) -> Any:
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
    from feast.types import Float64

    config = RepoConfig(
        project=PROJECT,
        registry=str(place / "registry.db"),
        provider="local",
        online_store={"type": "redis", "connection_string": f"localhost:{port}"},
        offline_store={"type": "file"},
        entity_key_serialization_version=3,
    )
    store = FeatureStore(config=config)
    user = Entity(name=VOCABULARY.entity, join_keys=[VOCABULARY.join_key], value_type=ValueType.STRING)
    source = FileSource(path=str(place / "none.parquet"), timestamp_field="at")
    view = FeatureView(
        name=VOCABULARY.view,
        entities=[user],
        schema=[Field(name=feature.name, dtype=Float64) for feature in VOCABULARY.features],
        source=source,
    )
    store.apply([user, view])
    return store


@pytest.fixture
def written(client: redis.Redis, settings: Settings) -> dict[str, dict[str, float | None]]:
    """Users whom an engine has written, with the features that stand in Redis."""
    store = create(client, settings)
    for event in made.random_events(VOCABULARY, np.random.default_rng(7), 300, 12, 40):
        made.post(client, store, VOCABULARY, [event])
    engine = made.engine(VOCABULARY, settings, store, client)
    made.drain(engine)
    engine.close()
    return {f"u{i}": made.features(client, VOCABULARY, f"u{i}") for i in range(12)}


@pytest.mark.filterwarnings("ignore")  # Feast's own
def test_feast_reads_what_the_flow_wrote(repository: Any, written: dict[str, dict[str, float | None]]) -> None:
    """Every feature of every user, bit for bit; and nothing of somebody who never came."""
    users = [user for user, found in written.items() if found["active_days_30d"] is not None]
    assert len(users) >= 8
    rows = [{VOCABULARY.join_key: f"org/{user}"} for user in [*users, "nobody"]]
    found = repository.get_online_features(features=NAMES, entity_rows=rows).to_dict()
    for feature in VOCABULARY.features:
        assert found[feature.name] == [*(written[user][feature.name] for user in users), None], feature.name


@pytest.mark.filterwarnings("ignore")  # Feast's own
def test_feast_tells_when(repository: Any, written: dict[str, dict[str, float | None]], client: redis.Redis) -> None:
    """Feast's event timestamp is the log's time up to which the features stand."""
    answer = repository.get_online_features(features=NAMES[:1], entity_rows=[{VOCABULARY.join_key: "org/u1"}])
    (stamp,) = answer.proto.results[1].event_timestamps
    at = made.feature_time(client, VOCABULARY, "u1")
    assert at > made.START
    assert stamp.ToDatetime(UTC) == datetime.fromtimestamp(at / 1000, UTC)
