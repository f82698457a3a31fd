"""A store that dies again and again under an engine that lives on."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest
import redis

from feature_repo import keys
from feature_repo.settings import Settings
from flows.embedded import Embedded, embedded
from flows.store import Store, connect, create
from serving.supervisor import environment
from tests.flows import streams_made as made
from tests.flows.both_sides import VOCABULARY
from tests.flows.ground import ACCESS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at the process in /proc")
PEOPLE, LOSSES = 12_000, 5


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Embedded]:
    server = embedded(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def engine(server: Embedded) -> Iterator[subprocess.Popen[bytes]]:
    settings = _settings(server)
    with closing(connect(settings)) as client:
        create(client, settings)
    command = [sys.executable, "-m", "flows.alerting"]
    process = subprocess.Popen(command, env=environment(settings), stderr=subprocess.DEVNULL)
    yield process
    process.terminate()
    assert process.wait(10) == 0


def _settings(server: Embedded) -> Settings:
    return Settings(home=server.home, partitions=4, clock="log", models=str(server.home))


def test_engine_outlives_its_store(server: Embedded, engine: subprocess.Popen[bytes]) -> None:
    """It waits, goes on where it was, counts once, and does not grow by its earlier lives."""
    grown: list[tuple[int, int]] = []
    for n in range(LOSSES):
        with closing(connect(_settings(server))) as client:
            store = create(client, _settings(server))
            _post(client, store, n)
            _until_counted(client, store)
            assert made.features(client, VOCABULARY, "u7")["doc_access_count_30d"] == n + 1
        assert engine.poll() is None
        grown.append(_size(engine.pid))
        assert server.process is not None
        server.process.kill()
        server.process.wait()
        time.sleep(0.1)
        server.restart()
    files, memory = zip(*grown, strict=True)
    assert len(set(files)) == 1, files
    assert memory[-1] < 1.4 * memory[1], memory


def _post(client: redis.Redis, store: Store, n: int) -> None:
    now = made.START + n
    made.post(
        client, store, VOCABULARY, [made.Event(f"u{i}", ACCESS, 0, now, now, n * PEOPLE + i) for i in range(PEOPLE)]
    )


def _until_counted(client: redis.Redis, store: Store) -> None:
    deadline = time.monotonic() + 30
    while True:
        ends = [cast(dict[str, bytes], client.xinfo_stream(keys.log(p)))["last-generated-id"] for p in range(4)]
        if ends == [client.get(keys.position(p)) for p in range(store.partitions)]:
            return
        assert time.monotonic() < deadline, "the engine did not go on"
        time.sleep(0.02)


def _size(pid: int) -> tuple[int, int]:
    """(open files, resident kB)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    resident = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
    return len(list(Path(f"/proc/{pid}/fd").iterdir())), resident
