"""Redis is gone for good: the lake brings a whole Telltale back, which then goes on."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from feature_repo import keys
from feature_repo.settings import Settings
from flows.store import connect, open_store
from serving.client import Door
from serving.supervisor import environment
from tests.flows.streams_made import counts
from tests.running_up import TELLTALE, Up, door_of, start

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
PATIENCE = 30.0


@pytest.fixture
def wall(tmp_path: Path, free_port: int) -> Settings:
    """A home in real time, where the lake writes each second and keeps everybody's features."""
    return Settings(home=tmp_path, port=free_port, partitions=2, lake_seconds=1, lake_features=1.0)


def soon(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def post(door: Door, days: int) -> None:
    """What some people did in the days before today, an anonymous one among them, who is then identified."""
    begun = datetime.now(UTC) - timedelta(minutes=1)
    calls: list[dict[str, Any]] = []
    for day in range(days):
        whose = {"userId": f"u{day % 5}"} if day % 3 else {"anonymousId": "visitor"}
        when = (begun - timedelta(days=day)).isoformat()
        calls.append({"type": "track", "event": "Document Viewed", "timestamp": when, "messageId": f"m{day}"} | whose)
    calls.append({"type": "identify", "userId": "u1", "anonymousId": "visitor", "traits": {"property_count": 3}})
    door.post("/v1/batch", msgspec.json.encode({"batch": calls}), {})


def features(door: Door) -> dict[str, dict[str, float]]:
    """Those that do not move with each second."""
    told = {f"u{i}": door.json(f"/v1/users/u{i}/features")["features"] for i in range(5)}
    still = ("doc_access_count_30d", "doc_access_per_week", "property_count", "active_days_30d")
    return {user: {name: found[name]["value"] for name in still} for user, found in told.items()}


def worked(settings: Settings, events: int) -> bool:
    """Every event counted, all of it in the lake, and nothing on its way from one person to another."""
    with closing(connect(settings)) as client:
        store = open_store(client)
        done = sum(n for name, n in counts(client, store).items() if name != "accepted")
        waiting = sum(client.xlen(keys.served(p)) for p in range(store.partitions))
        behind = [
            client.xrange(keys.log(p), b"(" + (client.get(keys.lake_position(p)) or b"0-0"), count=1)
            for p in range(store.partitions)
        ]
    return done == events and not waiting and not any(behind)


def run(settings: Settings, *words: str) -> subprocess.CompletedProcess[str]:
    command = [*TELLTALE, *words]
    return subprocess.run(command, env=environment(settings), capture_output=True, text=True, check=False)


def opened(settings: Settings, running: Up, act: Callable[[Door], None]) -> dict[str, dict[str, float]]:
    """What everybody's features are after `act`; all has ended then."""
    with closing(running), closing(door_of(running)) as door:
        act(door)
        return features(door)


def test_a_home_without_its_store_is_as_it_was(wall: Settings) -> None:
    """`telltale up`, its store thrown away, `telltale rebuild`, `telltale up`: features as before, and they go on."""

    def live(door: Door) -> None:
        post(door, 20)
        soon(lambda: worked(wall, 21))
        assert run(wall, "consistency").returncode == 0

    before = opened(wall, start(wall), live)
    assert sum(row["doc_access_count_30d"] for row in before.values()) == 20
    shutil.rmtree(wall.home / "store")
    rebuilt = run(wall, "rebuild")
    assert rebuilt.returncode == 0, rebuilt.stderr

    def look(door: Door) -> None:
        assert features(door) == before
        post(door, 20)  # sent again: they are known
        soon(lambda: worked(wall, 42))
        assert run(wall, "consistency").returncode == 0

    after = opened(wall, start(wall), look)
    assert after == before


def test_the_lake_of_nobody_is_said(wall: Settings) -> None:
    """One line and exit code 2 where there is no lake, and no store is left behind."""
    done = run(wall, "rebuild")
    assert done.returncode == 2
    assert "expected the lake of an earlier store" in done.stderr
    assert len(done.stderr.splitlines()) == 1
