"""Fixtures: the real API over a real Valkey, once a session, or once a file where it takes its time from events.

Tests keep apart by the names of their users.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from feature_repo.settings import Settings
from flows.store import embedded
from tests.live import Live, live
from tests.logged import Log


def _running(home: Path, clock: str) -> Iterator[tuple[Live, Log]]:
    server = embedded(home)
    settings = Settings(home=home, partitions=4, clock=clock)  # type: ignore[arg-type]  # wall or log
    try:
        with live(settings) as api:
            yield api, Log(settings)
    finally:
        server.stop()


@pytest.fixture(scope="session")
def wall_door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Live, Log]]:
    yield from _running(tmp_path_factory.mktemp("wall"), "wall")


@pytest.fixture(scope="module")  # whoever posts to it moves its time
def log_door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Live, Log]]:
    yield from _running(tmp_path_factory.mktemp("log"), "log")


@pytest.fixture
def api(wall_door: tuple[Live, Log]) -> Live:
    """The API of a store that runs on the wall clock."""
    return wall_door[0]


@pytest.fixture
def log(wall_door: tuple[Live, Log]) -> Log:
    """What that store's log holds."""
    return wall_door[1]


@pytest.fixture
def past_api(log_door: tuple[Live, Log]) -> Live:
    """The API of a store that runs on event time."""
    return log_door[0]


@pytest.fixture
def past_log(log_door: tuple[Live, Log]) -> Log:
    """What that store's log holds."""
    return log_door[1]
