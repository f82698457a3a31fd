"""What all tests share: the real store that the project ships."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis

from feature_repo.settings import Settings
from flows.store import Embedded, connect, embedded
from tests.running_up import Up, start


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    """A running embedded Valkey; its home is `valkey.home`."""
    server = embedded(tmp_path_factory.mktemp("home"))
    with closing(connect(Settings(home=server.home))) as client:
        client.config_set("hz", 250)  # an idle server ends a blocking read of 5 ms after 100 ms, this one after 8
    yield server
    server.stop()


@pytest.fixture(scope="module")
def empty_valkey(valkey: Embedded) -> Embedded:
    """The same server, emptied for a file whose tests share what stands in it."""
    with closing(connect(Settings(home=valkey.home))) as client:
        client.flushall()
    return valkey


@pytest.fixture
def settings(valkey: Embedded, tmp_path: Path) -> Settings:
    """Settings of a home of the test's own, whose store is the shared server."""
    return Settings(home=tmp_path, redis_url=f"unix://{valkey.where.socket}", partitions=4, clock="log", withheld=0.0)


@pytest.fixture
def client(valkey: Embedded, settings: Settings) -> Iterator[redis.Redis]:
    """The ordinary client of an empty store."""
    client = connect(settings)
    client.flushall()
    yield client
    client.close()


@pytest.fixture
def free_port() -> int:
    """A port on 127.0.0.1 where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def up(tmp_path: Path, free_port: int) -> Iterator[Up]:
    """A whole Telltale, of two partitions, that takes time from events."""
    with closing(
        start(Settings(home=tmp_path, port=free_port, clock="log", partitions=2, lake_seconds=1, withheld=0.0))
    ) as running:
        yield running
