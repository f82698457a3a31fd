"""What the tests of the flows share."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
import redis

from feature_repo.settings import Settings
from tests.flows import streams_made as made
from tests.flows.ground import Ground


@pytest.fixture
def ground(client: redis.Redis, settings: Settings) -> Iterator[Ground]:
    """An empty store of four partitions, for an engine with little memory."""
    client.config_set("appendfsync", "no")  # nothing here is about the disk
    ground = Ground(client, msgspec.structs.replace(settings, cache_users=16))
    yield ground
    client.config_set("appendfsync", "always")
    for engine in ground.engines:
        made.kill(engine)
