"""What the tests of training share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from flows import lake, lake_files


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lake by hand waits neither for more nor for the disk, which nothing here is about."""
    monkeypatch.setattr(lake, "WAIT_MS", 0)
    monkeypatch.setattr(lake_files, "_sync", lambda path: None)


@pytest.fixture
def client(client: redis.Redis) -> Iterator[redis.Redis]:
    """Of an empty store that does not wait for the disk either."""
    client.config_set("appendfsync", "no")
    yield client
    client.config_set("appendfsync", "always")
