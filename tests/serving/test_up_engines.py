"""Several engines as their user starts them: by a setting, and by one command beside a Telltale that runs."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from feature_repo.settings import Settings
from flows.store import connect, open_store
from serving.metrics_read import by_engine
from serving.supervisor import children, environment
from tests.faults.engines import until, until_shared
from tests.running_up import TELLTALE, door_of, start

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="ends with the processes that started it")


@pytest.mark.parametrize("engines", range(4))
def test_as_many_engines_are_started_as_the_setting_says(engines: int) -> None:
    names = [child.name for child in children(Settings(engines=engines))]
    assert [name for name in names if name.startswith("engine")] == ["engine", "engine-2", "engine-3"][:engines]
    assert "lake" in names


def test_one_more_joins_and_leaves(tmp_path: Path, free_port: int) -> None:
    """`TELLTALE_ENGINES=2 telltale up`, then `telltale engine` with a home of its own, as on another machine."""
    settings = Settings(home=tmp_path / "one", port=free_port, clock="log", partitions=4, engines=2)
    settings.home.mkdir()
    with closing(start(settings)) as up, closing(door_of(up)) as door, closing(connect(settings)) as client:
        store = open_store(client)
        until_shared(client, store, 2)
        elsewhere = msgspec.structs.replace(
            settings, home=tmp_path / "two", redis_url=f"unix://{settings.home / 'store' / 'valkey.sock'}"
        )
        added = subprocess.Popen([*TELLTALE, "engine"], env=environment(elsewhere), stdout=subprocess.PIPE, text=True)
        owners = until_shared(client, store, 3)
        assert any(owner.endswith(str(elsewhere.home)) for owner in owners)
        until(lambda: sum(by_engine(door.text("/metrics"), "telltale_engine_partitions").values()) == 4)
        added.send_signal(signal.SIGTERM)
        assert "go on with its share" in added.communicate(timeout=10)[0]
        assert added.returncode == 0
        until_shared(client, store, 2)
        assert up.end() < 5.0


def test_without_a_store_it_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [*TELLTALE, "engine"], env=environment(Settings(home=tmp_path)), capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "no store runs" in done.stderr
