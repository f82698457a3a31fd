"""What the tests of the flows share."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
import redis

from feature_repo.settings import Settings
from flows import lake_files
from flows.lake_read import LakeReader
from flows.store import Store, create
from tests.flows import streams_made as made
from tests.flows.ground import Ground
from tests.flows.made_logs import VOCABULARY, Log


@pytest.fixture
def store(client: redis.Redis, settings: Settings) -> Store:
    """An empty store, as it was created."""
    return create(client, settings)


@pytest.fixture
def log(client: redis.Redis, store: Store) -> Log:
    """Appends to its log."""
    return Log(client, store)


@pytest.fixture
def reader(client: redis.Redis, store: Store, settings: Settings) -> LakeReader:
    """Reads its lake, and what is in its log alone."""
    return LakeReader(settings.lake, VOCABULARY, store, client)


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that a test does with the lake in its own process is about the disk."""
    monkeypatch.setattr(lake_files, "_sync", lambda path: None)


@pytest.fixture
def ground(client: redis.Redis, settings: Settings) -> Iterator[Ground]:
    """An empty store of four partitions, for an engine with little memory."""
    client.config_set("appendfsync", "no")  # nothing here is about the disk
    ground = Ground(client, msgspec.structs.replace(settings, cache_users=16))
    yield ground
    client.config_set("appendfsync", "always")
    for engine in ground.engines:
        made.kill(engine)
