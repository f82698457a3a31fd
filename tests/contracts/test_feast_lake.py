"""Feast's offline store on the lake's features as served, without a row being copied."""

from __future__ import annotations

import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
import redis

from feature_repo import training_sets
from feature_repo.settings import Settings
from flows.lake import Lake
from tests.flows import streams_made as made
from tests.flows.both_sides import VOCABULARY
from tests.flows.ground import Ground
from tests.flows.streams_made import DAY

NAMES = [feature.name for feature in VOCABULARY.features]
CONFIGURATION = """
project: telltale
provider: local
registry: {place}/registry.db
offline_store: {{type: duckdb}}
online_store: {{type: sqlite, path: {place}/online.db}}
entity_key_serialization_version: 3
"""

pytestmark = pytest.mark.filterwarnings("ignore")  # Feast's own


def feast(place: Path, lake: Path) -> Any:
    """The SDK on a repository of one view, whose source is the lake as it lies."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
        from feast.types import Float64, String

        (place / "feature_store.yaml").write_text(CONFIGURATION.format(place=place))
        person = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
        source = FileSource(
            path=f"{lake}/features/*/*.parquet",
            timestamp_field=training_sets.EVENT_TIMESTAMP,
            created_timestamp_column=training_sets.CREATED,
        )
        schema = [Field(name="user_id", dtype=String), *(Field(name=name, dtype=Float64) for name in NAMES)]
        view = FeatureView(name="served", entities=[person], ttl=timedelta(days=400), schema=schema, source=source)
        store = FeatureStore(repo_path=str(place))
        store.apply([person, view])
    return store


def test_historical_features_are_what_was_served(client: redis.Redis, settings: Settings, tmp_path: Path) -> None:
    """As of each label the latest row that was served by then, bit for bit; a label before any keeps its row."""
    ground = Ground(client, msgspec.structs.replace(settings, lake_features=1.0))
    engine = ground.engine()
    for batch in np.array_split(
        np.array(made.random_events(VOCABULARY, np.random.default_rng(1), 200, 5, 9), object), 9
    ):
        ground.post(*batch)
        made.drain(engine)
    lake = Lake(ground.settings, client, ground.store, lambda: 0.0)
    lake.recover()
    lake.take_served()
    lake.close()
    served = pd.read_parquet(settings.lake / "features").sort_values(["event_timestamp", "created"])
    latest = served.groupby("user_id").tail(1).reset_index(drop=True)
    asked = latest[["user_id"]].assign(event_timestamp=latest["event_timestamp"] + pd.Timedelta(hours=1))
    early = asked.head(1).assign(event_timestamp=served["event_timestamp"].min() - pd.Timedelta(milliseconds=DAY))
    rows = pd.concat([asked, early]).reset_index(drop=True).assign(row=lambda x: range(len(x)))
    store = feast(tmp_path, settings.lake)
    found = store.get_historical_features(rows, [f"served:{name}" for name in NAMES]).to_df()
    found = found.sort_values("row").reset_index(drop=True)
    assert len(found) == len(rows)
    for name in NAMES:
        assert found[name].tolist()[:-1] == latest[name].tolist(), name
    assert found[NAMES].iloc[-1].isna().all()
