"""Features as served in the lake: every row once, whatever is killed when, readable by others' tools."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import numpy as np
import pandas as pd
import pytest
import redis

from feature_repo import keys
from feature_repo.settings import Settings
from flows import lake
from flows import lake_files as files
from flows.lake import Lake
from flows.lake_read import LakeReader, Window
from flows.lake_store import claim, identity
from flows.served import bound
from flows.state import identity as uid_of
from tests.flows import streams_made as made
from tests.flows.both_sides import VOCABULARY
from tests.flows.ground import Ground, event
from tests.flows.streams_made import DAY, START
from tests.live import environment

PATIENCE = 60.0
NAMES = [f.name for f in VOCABULARY.features]
Row = tuple[str, int, str, bytes]  # user, now, position, values


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Everybody is followed."""
    return msgspec.structs.replace(settings, lake_features=1.0)


@pytest.fixture
def ground(client: redis.Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Ground:
    monkeypatch.setattr(lake, "WAIT_MS", 0)
    return Ground(client, settings)


class Machine:
    """The lake by hand: it drains when the test says."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.lake = self._recovered()

    def _recovered(self) -> Lake:
        made = Lake(self.ground.settings, self.ground.client, self.ground.store, lambda: 0.0)
        made.recover()
        return made

    def restart(self) -> None:
        self.lake.close()
        self.lake = self._recovered()

    def flush(self) -> None:
        while (batches := self.lake.read()) and batches[0]:
            self.lake.take(batches)
        self.lake.flush()
        self.lake.take_served()

    def write_and_die(self) -> None:
        """As far as a kill between file and position lets it come."""
        for drain in self.lake.served:
            if reads := drain.read():
                drain.shelf.write(drain.parts(reads))
        self.restart()


@pytest.fixture
def machine(ground: Ground) -> Iterator[Machine]:
    made = Machine(ground)
    yield made
    made.lake.close()


@pytest.fixture
def reader(ground: Ground) -> LakeReader:
    return LakeReader(ground.settings.lake, VOCABULARY, ground.store, ground.client)


def waiting(ground: Ground) -> int:
    return sum(ground.client.xlen(keys.served(p)) for p in range(ground.store.partitions))


def rows(table: pd.DataFrame) -> list[Row]:
    """In a fixed order; values as bytes, so that a difference in the last bit is one."""
    at = pd.to_datetime(table["event_timestamp"], utc=True).astype("datetime64[ms, UTC]").astype("int64")
    values = table[NAMES].to_numpy(float)
    whose = zip(table["user"], at, table["position"], values, strict=True)
    return sorted((user, now, position, row.tobytes()) for user, now, position, row in whose)


def from_files(settings: Settings) -> list[Row]:
    """As somebody else's DuckDB sees them."""
    source = f"read_parquet('{settings.lake}/features/*/*.parquet', union_by_name=true)"
    with duckdb.connect() as connection:
        return rows(connection.execute(f"SELECT * FROM {source}").df())


def from_current_files(settings: Settings) -> list[Row]:
    """The same without the pieces that a kill left beside the file that they are in."""
    standing = files.current(files.everything(settings.lake, kind=files.FEATURES))
    return rows(duckdb.read_parquet([str(file.path) for file in standing], union_by_name=True).df())


def test_rows_come_through(ground: Ground, machine: Machine, settings: Settings) -> None:
    """The last row of each person is what Feast reads, bit for bit, under the names of Feast's offline store."""
    ground.post(*made.random_events(VOCABULARY, np.random.default_rng(2), 300, 15, 5))
    made.drain(ground.engine())
    machine.flush()
    frame = pd.read_parquet(settings.lake / "features")
    assert waiting(ground) == 0
    assert set(frame["user_id"]) == {f"org/{e.user}" for e in ground.events}
    last = frame.sort_values(["event_timestamp", "created"]).groupby("user").tail(1).set_index("user")
    for user in last.index:
        assert last.loc[user, NAMES].to_dict() == ground.features(user)


def test_a_reader_sees_each_row_once_whatever_is_killed(ground: Ground, machine: Machine, reader: LakeReader) -> None:
    """Random flushes, drains, kills between file and position: at each moment every served row is there once."""
    dice, engine, written, at = random.Random(7), ground.engine(), set[tuple[str, int]](), START
    for n in range(30):
        at += dice.choice((1, 1_000, DAY // 3))
        user = f"u{dice.randrange(5)}"
        ground.post(event(user, at, n))
        made.drain(engine)
        written.add((user, at))
        dice.choice((machine.flush, machine.write_and_die, machine.restart, lambda: None))()
        found = rows(reader.served().to_pandas())
        assert [(user, now) for user, now, _, _ in found] == sorted(written)
    machine.flush()
    assert rows(reader.served().to_pandas()) == from_files(ground.settings)
    assert len(files.everything(ground.settings.lake, kind=files.FEATURES)) < 20


def test_windows_of_served_rows(ground: Ground, machine: Machine, reader: LakeReader) -> None:
    """One person's rows, from files and stream alike."""
    engine = ground.engine()
    ground.post(event("u1", START, 1), event("u2", START, 2))
    made.drain(engine)
    machine.flush()
    ground.post(event("u1", START + 5, 3))
    made.drain(engine)
    found = rows(reader.served(window=Window(users=("org/u1",))).to_pandas())
    assert [(user, now) for user, now, _, _ in found] == [("u1", START), ("u1", START + 5)]


def test_what_was_dropped_meanwhile_stands(ground: Ground, machine: Machine) -> None:
    """A file whose entries left the stream before it was committed is kept, since nobody could write it again."""
    ground.post(event("u1", START, 1))
    made.drain(ground.engine())
    partition = uid_of(ground.store, b"org/u1") % ground.store.partitions
    drain = machine.lake.served[partition]
    drain.shelf.write(drain.parts(drain.read()))
    bound(ground.client, partition, 0)
    machine.restart()
    assert [(user, now) for user, now, _, _ in from_files(ground.settings)] == [("u1", START)]


def test_features_of_two_vocabularies_lie_side_by_side(ground: Ground, machine: Machine, settings: Settings) -> None:
    """Rows of another feature set share a merged file: what one of them does not have is null there."""
    engine = ground.engine()
    ground.post(event("u1", START, 1))
    made.drain(engine)
    machine.flush()
    (known,) = ground.client.hkeys(keys.FEATURE_SETS)
    renamed = msgspec.json.encode([f"new_{name}" for name in NAMES])
    ground.client.hset(keys.FEATURE_SETS, known, renamed)
    machine.restart()
    ground.post(event("u1", START + 1, 2))
    made.drain(engine)
    machine.flush()
    (file,) = files.everything(settings.lake, kind=files.FEATURES)
    frame = pd.read_parquet(file.path)
    assert frame["doc_access_count_30d"].dropna().tolist() == [1.0]
    assert frame["new_doc_access_count_30d"].dropna().tolist() == [2.0]


def dates(place: Path) -> list[str]:
    return sorted(path.name.removeprefix("date=") for path in place.glob("date=*"))


def test_dates_that_are_over_go(ground: Ground, settings: Settings, reader: LakeReader) -> None:
    """With TELLTALE_LAKE_DAYS=2 events and features of older dates are removed, counted, and noted beside the lake."""
    ground.settings = msgspec.structs.replace(settings, lake_days=2)
    machine, engine = Machine(ground), ground.engine()
    for day in range(5):
        ground.post(event("u1", START + day * DAY, day))
        made.drain(engine)
        lock = claim(settings.lake, ground.store)
        machine.flush()
        lock.close()
    kept = [files.date_of((START + day * DAY, 0)) for day in (3, 4)]
    assert dates(settings.lake / "events") == dates(settings.lake / "features") == kept
    assert sorted(e["ts"].date().isoformat() for e in reader.events().to_pylist()) == kept
    whose = identity(settings.lake)
    assert whose is not None
    assert whose.removed_until == files.date_of((START + 2 * DAY, 0))
    assert int(ground.client.hget(keys.LAKE, "dates_removed_total") or 0) == 6
    machine.lake.close()


def test_nothing_goes_without_the_setting(ground: Ground, machine: Machine, settings: Settings) -> None:
    """By default a date stays for ever."""
    engine = ground.engine()
    for day in (0, 400):
        ground.post(event("u1", START + day * DAY, day))
        made.drain(engine)
        machine.flush()
    assert len(dates(settings.lake / "events")) == 2


def test_processes_killed_in_a_loop_lose_and_repeat_no_row(ground: Ground, settings: Settings) -> None:
    """`python -m flows.lake` killed at random moments: in the end the files hold each served row once."""
    dice, engine, written = random.Random(3), ground.engine(), set[tuple[str, int]]()
    environ = environment(msgspec.structs.replace(settings, lake_seconds=0))
    at = START
    for round_ in range(5):
        process = subprocess.Popen([sys.executable, "-m", "flows.lake"], env=environ)
        until = time.monotonic() + 1.2 + dice.random() * 0.3
        while time.monotonic() < until:
            at += dice.choice((1, 60_000))
            user = f"u{dice.randrange(9)}"
            ground.post(event(user, at, at))
            made.drain(engine)
            written.add((user, at))
        if round_ == 4:
            _soon(lambda: not waiting(ground))
        process.kill()
        process.wait()
    assert [(user, now) for user, now, _, _ in from_current_files(settings)] == sorted(written)


def _soon(condition: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_what_the_readme_says_of_them_runs(
    ground: Ground, machine: Machine, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its DuckDB query and its pandas lines, as they stand there, in the directory above a home."""
    readme = (Path(__file__).parents[2] / "flows" / "README.md").read_text()
    part = readme[readme.index("### Features as served") :]
    query, code = (re.findall(rf"```{language}\n(.*?)```", part, re.DOTALL)[0] for language in ("sql", "python"))
    engine = ground.engine()
    for now in (START, START + DAY):
        ground.post(event("u1", now, now), event("u2", now, now + 1))
        made.drain(engine)
    machine.flush()
    (tmp_path / ".telltale").symlink_to(settings.home)
    monkeypatch.chdir(tmp_path)
    with duckdb.connect() as connection:
        found = connection.execute(query).fetchall()
    assert sorted(row[0] for row in found) == ["org/u1", "org/u1", "org/u2", "org/u2"]
    names: dict[str, Any] = {}
    exec(code, names)
    latest = names["latest"].set_index("user")
    assert {user: latest.loc[user, NAMES].to_dict() for user in ("u1", "u2")} == {
        user: ground.features(user) for user in ("u1", "u2")
    }
