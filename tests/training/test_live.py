"""A simulated world posted through the real door: history first, once each, and on from where it stopped."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from feature_repo.settings import Settings
from feature_repo.vocabulary import Vocabulary
from flows.lake import Lake
from flows.plan import Plan
from flows.store import connect, embedded, open_store
from tests.live import KEY, ORGANISATION, ROOT, Live, environment, live
from training import labels
from training.backfill import features, stream
from training.feed import user
from training.live import BATCH, ERA_DAYS, Progress
from training.records import DAY
from training.simulate import Era, simulate
from training.training_set import Wanted, training_set
from training.world import CONTACTS

PEOPLE, DAYS = 60, 10


@pytest.fixture
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """The API of an empty store that runs on event time."""
    home = tmp_path_factory.mktemp("simulated")
    server = embedded(home)
    try:
        with live(Settings(home=home, partitions=2, clock="log")) as running:
            yield running
    finally:
        server.stop()


def start(api: Live, home: Path, *more: str) -> subprocess.Popen[bytes]:
    """The simulator as `telltale simulate` starts it, with its progress in a home of its own."""
    given = ("--url", api.url, "--key", KEY, "--people", str(PEOPLE), "--days", str(DAYS), *more)
    ours = environment(api.settings) | {"TELLTALE_HOME": str(home)}
    return subprocess.Popen([sys.executable, "-m", "training.live", *given], cwd=ROOT, env=ours, stdout=subprocess.PIPE)


def accepted(api: Live) -> int:
    lines = api.ask("GET", "/metrics").body.decode().splitlines()
    return sum(int(float(line.split()[1])) for line in lines if line.startswith("telltale_events_accepted_total{"))


def progress(home: Path) -> Progress:
    return msgspec.json.decode((home / "simulation.json").read_bytes(), type=Progress)


def test_history_then_clock(api: Live, tmp_path: Path) -> None:
    """It posts the history, then runs its clock to where it was told, and the door accepted every call."""
    process = start(api, tmp_path, "--speed", "400000", "--until", str(DAYS + 2))
    lines = [msgspec.json.decode(line) for line in process.communicate(timeout=30)[0].splitlines()]
    assert process.returncode == 0
    found = progress(tmp_path)
    assert found.clock == found.start + (DAYS + 2) * DAY
    assert lines[-1]["sent"] <= found.sent == accepted(api)
    assert lines[0]["clock"] < lines[-1]["clock"]


def test_the_lake_gives_the_features_of_what_was_posted(api: Live, tmp_path: Path) -> None:
    """`telltale backfill` from the lake equals, bit for bit, the simulated events: the whole way round, by HTTP."""
    start(api, tmp_path, "--seed", "9", "--speed", "400000", "--until", str(DAYS + 2)).communicate(timeout=30)
    fill(api.settings)
    done = progress(tmp_path)
    world = simulate(PEOPLE, ERA_DAYS, 9, CONTACTS, Era(done.start))
    of = stream(world, Vocabulary())
    person, at = np.arange(PEOPLE), np.full(PEOPLE, done.clock - 1)
    asked = pa.table({"user": [user(p) for p in range(PEOPLE)], "as_of": pa.array(at, pa.timestamp("ms"))})
    pyarrow.parquet.write_table(asked, tmp_path / "in.parquet")
    wanted = Wanted(history=api.settings.lake, vocabulary=Vocabulary(), organisation=ORGANISATION)
    found, _ = training_set(wanted, labels.read(tmp_path / "in.parquet"))
    expected = features(Plan(Vocabulary()), of, person, at)
    for i, feature in enumerate(Vocabulary().features):
        assert np.array_equal(found[feature.name].to_numpy(), expected[:, i]), feature.name


def fill(settings: Settings) -> None:
    """All that the log holds, into the lake."""
    client = connect(settings)
    lake = Lake(settings, client, open_store(client), time.monotonic)
    lake.recover()
    while (batches := lake.read()) and batches[0]:
        lake.take(batches)
    lake.flush()
    lake.close()
    client.close()


def test_goes_on_where_it_stopped(api: Live, tmp_path: Path) -> None:
    """Stopped by SIGTERM it ends within a second; the next run goes on with the clock and sends nothing anew."""
    process = start(api, tmp_path, "--seed", "8", "--speed", "20000")
    while b"clock" not in (process.stdout.readline() if process.stdout else b"clock"):
        pass
    time.sleep(1.0)
    process.send_signal(signal.SIGTERM)
    asked = time.monotonic()
    process.communicate(timeout=10)
    assert time.monotonic() - asked < 1.0
    stopped = progress(tmp_path)
    told = start(api, tmp_path, "--speed", "400000", "--until", str(DAYS + 3)).communicate(timeout=30)[0]
    assert np.datetime64(msgspec.json.decode(told.splitlines()[0])["clock"][:-1], "ms").astype(int) >= stopped.clock
    assert progress(tmp_path).sent >= stopped.sent
    assert progress(tmp_path).seed == stopped.seed == 8
    assert 0 <= accepted(api) - progress(tmp_path).sent <= BATCH  # one may be under way, and comes again by its ids


def test_refused_key(api: Live, tmp_path: Path) -> None:
    """A key that the door does not know ends the simulator with one line that says what came."""
    given = ("--url", api.url, "--key", "nobody", "--people", "10", "--days", "1")
    ours = environment(api.settings) | {"TELLTALE_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "training.live", *given]
    ended = subprocess.run(command, cwd=ROOT, env=ours, capture_output=True, timeout=30, check=False)
    assert ended.returncode == 1
    assert b"expected 200, got 401" in ended.stderr
    assert b"Traceback" not in ended.stderr
