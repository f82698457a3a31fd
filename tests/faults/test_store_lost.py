"""A store that dies again and again under an engine that lives on."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from feature_repo.settings import Settings
from flows.embedded import Embedded, embedded
from flows.store import connect, create
from tests.faults.engines import engine, opened, post, until_counted

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at the process in /proc")
PEOPLE, LOSSES = 10_000, 4


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Embedded]:
    """A store of this test's own."""
    server = embedded(tmp_path)
    yield server
    server.stop()


def test_engine_outlives_its_store(server: Embedded) -> None:
    """It waits, goes on where it was, counts once, and does not grow by its earlier lives."""
    settings = Settings(home=server.home, partitions=4, clock="log", models=str(server.home))
    with closing(connect(settings)) as client:
        store = create(client, settings)
    grown: list[tuple[int, int]] = []
    with engine(settings) as running:
        for n in range(LOSSES):
            with closing(connect(settings)) as client:
                post(client, store, PEOPLE, n)
                until_counted(client, store)
                assert opened(client, "u7") == n + 1
            grown.append(_size(running.pid))
            _lose(server)
        running.send_signal(signal.SIGTERM)
        assert running.wait(10) == 0
    files, memory = zip(*grown, strict=True)
    assert len(set(files)) == 1, files
    assert memory[-1] < 1.4 * memory[1], memory


def _lose(server: Embedded) -> None:
    assert server.process is not None
    server.process.kill()
    server.process.wait()
    time.sleep(0.1)
    server.restart()


def _size(pid: int) -> tuple[int, int]:
    """(open files, resident kB)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    resident = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
    return len(list(Path(f"/proc/{pid}/fd").iterdir())), resident
