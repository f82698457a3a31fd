"""The lake: every event in Parquet once, whatever is killed when, and readable by others' tools."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest
import redis

from feature_repo import keys
from feature_repo.settings import Settings
from flows import lake
from flows import lake_files as files
from flows.embedded import embedded
from flows.entry import tick
from flows.lake import Lake
from flows.lake_read import LakeReader, Window
from flows.lake_shelf import LakeError
from flows.lake_store import claim
from flows.store import Store, connect, create, open_store
from tests.flows.made_logs import DAY, START, VOCABULARY, Log, track

PATIENCE = 60.0


class Machine:
    """The lake's parts run by hand: a clock that the test moves, flushes when the test says."""

    def __init__(self, settings: Settings, client: redis.Redis, store: Store) -> None:
        self.args = (settings, client, store)
        self.now = 0.0
        self.lake = self._recovered()

    def start(self) -> None:
        self.lake.close()
        self.lake = self._recovered()

    def _recovered(self) -> Lake:
        made = Lake(*self.args, lambda: self.now)
        made.recover()
        return made

    def read(self) -> None:
        while (batches := self.lake.read()) and batches[0]:
            self.lake.take(batches)

    def flush(self) -> None:
        self.read()
        self.lake.flush()

    def write_without_committing(self) -> None:
        """As far as a kill between file and position lets it come."""
        for partition, reads in self.lake._waiting.items():
            self.lake.shelves[partition].write(self.lake.parts(partition, reads))

    def read_and_die(self) -> None:
        self.read()
        self.write_without_committing()
        self.start()


@pytest.fixture
def machine(
    settings: Settings, client: redis.Redis, store: Store, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Machine]:
    monkeypatch.setattr(lake, "WAIT_MS", 0)
    made = Machine(settings, client, store)
    yield made
    made.lake.close()


def messages(reader: LakeReader, window: Window = Window()) -> list[str]:  # noqa: B008  # it is frozen
    return sorted(reader.events(window)["message_id"].to_pylist())


def asked(query: str) -> list[Any]:
    """The answer of a DuckDB of its own."""
    with duckdb.connect() as connection:
        return connection.execute(query).fetchall()


def from_files(settings: Settings) -> list[str]:
    """As somebody else's DuckDB sees the files themselves."""
    glob = f"{settings.lake}/events/*/*.parquet"
    return sorted(row[0] for row in asked(f"SELECT message_id FROM read_parquet('{glob}')"))


def test_every_column_comes_through(log: Log, machine: Machine, settings: Settings, store: Store) -> None:
    """What was sent, what it means and where it stands in the log are in the row."""
    log.append(START + 5, track("ann", "m1", "Session Ended", value=12.5, ts=START - 9), history=True)
    log.append(START + 6, track("ann", "m2", "Email Opened", tag="refinance"), track("ann", "m3", "No Such Thing"))
    log.append(START + 7, {"type": "identify", "userId": "ann", "messageId": "m4", "traits": {"address": "ä"}})
    machine.flush()
    table = LakeReader(settings.lake, VOCABULARY, store).events()
    rows = {row["message_id"]: row for row in table.to_pylist()}
    first = rows["m1"]
    assert (first["organisation"], first["user"], first["type"]) == ("acme", "ann", "track")
    assert (first["event"], first["name"], first["value"], first["history"]) == ("session", "Session Ended", 12.5, True)
    assert first["ts"].timestamp() * 1000 == START - 9
    assert first["logged_at"].timestamp() * 1000 == START + 5
    assert first["entry_id"] == f"{START + 5}-0"
    assert '"value":12.5' in first["raw"]
    assert (rows["m2"]["tag"], rows["m2"]["index"], rows["m2"]["value"]) == ("refinance", 0, None)
    assert (rows["m3"]["event"], rows["m3"]["name"], rows["m3"]["index"]) == (None, "No Such Thing", 1)
    assert (rows["m4"]["type"], rows["m4"]["event"]) == ("identify", None)
    assert "ä" in rows["m4"]["raw"]


def test_dates_are_those_of_the_log(log: Log, machine: Machine, settings: Settings) -> None:
    """A flush that crosses a midnight writes a file a date; an event's own time does not matter."""
    log.append(START - 1, track("ann", "m1"))
    log.append(START, track("ann", "m2", ts=START - DAY))
    machine.flush()
    found = {f.date: pd.read_parquet(f.path)["message_id"].tolist() for f in files.everything(settings.lake)}
    assert found == {"2024-10-03": ["m1"], "2024-10-04": ["m2"]}


def test_pandas_and_duckdb_agree_with_what_was_sent(log: Log, machine: Machine, settings: Settings) -> None:
    """Counts by event name, read as a data set of directories by tools that know nothing of us."""
    sent: Counter[str] = Counter()
    dice = random.Random(3)
    for i in range(300):
        name = dice.choice(["Document Viewed", "Session Ended", "Email Opened"])
        log.append(START + i * 3_600_000, track(f"u{dice.randrange(20)}", f"m{i}", name))
        sent[name] += 1
        if i % 50 == 0:
            machine.flush()
    machine.flush()
    frame = pd.read_parquet(settings.lake / "events")
    assert frame.groupby("name", observed=True).size().to_dict() == sent
    source = f"read_parquet('{settings.lake}/events/*/*.parquet')"
    assert dict(asked(f"SELECT name, count(*) FROM {source} WHERE date >= '2024-10-04' GROUP BY 1")) == sent


def test_a_resent_message_counts_once(log: Log, machine: Machine, reader: LakeReader) -> None:
    """The first of a messageId is read, whether the second is in the same entry, another file, or the log."""
    log.append(START, track("ann", "m1", ts=START - 1), track("ann", "m1", ts=START - 2))
    machine.flush()
    log.append(START + DAY, track("ann", "m1"))
    machine.flush()
    log.append(START + 2 * DAY, track("ann", "m1"), track("ann", "m2"))
    machine.read()
    assert messages(reader) == ["m1", "m2"]
    assert min(reader.events()["ts"].to_pylist()).timestamp() * 1000 == START - 1


def test_what_is_not_yet_flushed_is_read_too(log: Log, machine: Machine, reader: LakeReader) -> None:
    """A query sees an event at once, and the same events after the flush."""
    log.append(START, track("ann", "m1"), track("bob", "m2"))
    before = messages(reader)
    machine.flush()
    log.append(START + 1, track("ann", "m3"))
    assert before == ["m1", "m2"]
    assert messages(reader) == ["m1", "m2", "m3"]


def test_windows(log: Log, machine: Machine, reader: LakeReader) -> None:
    """One person, or one span of the events' own time, from files and log alike."""
    log.append(START, track("ann", "m1"), track("bob", "m2"))
    machine.flush()
    log.append(START + DAY, track("ann", "m3"), track("bob", "m4"))
    assert messages(reader, Window(users=("acme/ann",))) == ["m1", "m3"]
    assert messages(reader, Window(users=("acme/nobody",))) == []
    assert messages(reader, Window(since=START + 1)) == ["m3", "m4"]
    assert messages(reader, Window(users=("acme/bob",), until=START + DAY)) == ["m2"]
    assert reader.events(Window(users=("acme/ann",)), limit=1)["message_id"].to_pylist() == ["m3"]


def test_joins_are_kept_and_are_no_events(log: Log, machine: Machine, reader: LakeReader, settings: Settings) -> None:
    """Who an anonymous person turned out to be is in the files, and no query of events counts it."""
    log.append(START, track("anon:x", "m1"))
    log.join(START + 1, "x", "ann")
    machine.flush()
    assert messages(reader) == ["m1"]
    frame = pd.read_parquet(settings.lake / "events")
    assert frame[frame["type"] == "join"]["joined"].tolist() == ["acme/ann"]


def test_flushes_when_it_is_time(log: Log, machine: Machine, settings: Settings) -> None:
    """Nothing is written before `lake_seconds` have passed since the oldest entry that waits, then all is."""
    log.append(START, track("ann", "m1"))
    machine.read()
    machine.now = settings.lake_seconds - 0.1
    machine.lake.take(machine.lake.read())
    assert not files.everything(settings.lake)
    machine.now += 0.2
    machine.lake.take(machine.lake.read())
    assert from_files(settings) == ["m1"]


def test_ticks_move_the_position_and_make_no_file(client: redis.Redis, machine: Machine, settings: Settings) -> None:
    """A partition in which only time passes can be trimmed."""
    client.xadd(keys.log(1), {"e": tick(1, 2)}, id=f"{START}-0")
    machine.flush()
    assert client.get(keys.lake_position(1)) == f"{START}-0".encode()
    assert not files.everything(settings.lake)


def test_many_flushes_leave_few_files(log: Log, machine: Machine, settings: Settings) -> None:
    """A date's files grow by merging, and a date that is over is one file a partition."""
    user = "ann"
    for i in range(40):
        log.append(START + i, track(user, f"m{i}"))
        machine.flush()
    assert len(files.everything(settings.lake)) <= 6
    log.append(START + DAY, track(user, "next"))
    machine.flush()
    assert [f.date for f in files.everything(settings.lake)] == ["2024-10-04", "2024-10-05"]
    assert from_files(settings) == sorted([f"m{i}" for i in range(40)] + ["next"])


def test_a_kill_between_file_and_position(log: Log, machine: Machine, settings: Settings, reader: LakeReader) -> None:
    """Files past the position are removed at the next start, and their entries are written again: none twice."""
    log.append(START, track("ann", "m1"))
    machine.flush()
    log.append(START + 1, track("ann", "m2"))
    log.append(START + DAY, track("ann", "m3"))
    machine.read()
    machine.write_without_committing()
    assert len(files.everything(settings.lake)) == 3  # m1; m1 and m2 merged; m3
    assert messages(reader) == ["m1", "m2", "m3"]
    log.append(START + DAY + 1, track("ann", "m4"))
    machine.start()
    machine.flush()
    assert from_files(settings) == ["m1", "m2", "m3", "m4"]


@pytest.mark.parametrize("seed", range(3))
def test_whatever_the_order_of_flushes_merges_and_kills(
    seed: int, log: Log, machine: Machine, settings: Settings, reader: LakeReader
) -> None:
    """Random appends over days, flushes, kills before the commit: at each moment a reader sees each event once."""
    dice, at, sent = random.Random(seed), START, 0
    for _ in range(20):
        for _ in range(dice.randrange(4)):
            at += dice.choice((1, 1, 1, 1_000, DAY // 3))
            log.append(at, *(track(f"u{dice.randrange(6)}", f"m{sent + i}") for i in range(3)))
            sent += 3
        step = dice.choice((machine.flush, machine.read, machine.read_and_die))
        step()
        assert len(messages(reader)) == len(set(messages(reader))) == sent
    machine.start()
    machine.flush()
    assert from_files(settings) == sorted(f"m{i}" for i in range(sent))


def test_what_the_log_no_longer_has_is_not_removed(
    log: Log, machine: Machine, client: redis.Redis, settings: Settings
) -> None:
    """When Redis went back in time the lake refuses to start, and its files stay."""
    log.append(START, track("ann", "m1"))
    machine.flush()
    client.delete(keys.lake_position(log.uid("acme/ann") % 4), keys.log(log.uid("acme/ann") % 4))
    with pytest.raises(LakeError, match="back in time"):
        machine.start()
    assert from_files(settings) == ["m1"]


def test_one_writer_and_one_store(settings: Settings, store: Store) -> None:
    """A second process on the lake is refused, and so is another store's."""
    with claim(settings.lake, store), pytest.raises(LakeError, match="another process"):
        claim(settings.lake, store)
    with pytest.raises(LakeError, match="another store"):
        claim(settings.lake, Store(4, "log", store.seed + 1))


class Process:
    """`python -m flows.lake`, started and ended at will."""

    def __init__(self, settings: Settings) -> None:
        given = {"HOME": str(settings.home), "REDIS_URL": settings.redis_url, "LAKE_SECONDS": "0"}
        self.environ = os.environ | {f"TELLTALE_{name}": value for name, value in given.items()}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, **more: str) -> None:
        self.process = subprocess.Popen([sys.executable, "-m", "flows.lake"], env=self.environ | more)

    def end(self, number: int) -> float:
        assert self.process is not None
        began = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(PATIENCE)
        return time.monotonic() - began


@pytest.fixture
def process(settings: Settings) -> Iterator[Process]:
    made = Process(settings)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.end(signal.SIGKILL)


def soon(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def parquet(place: Path) -> int:
    return len(files.everything(place))


def test_killed_in_a_loop_each_event_is_there_once(
    log: Log, process: Process, settings: Settings, reader: LakeReader
) -> None:
    """Kill -9 at random moments while flushes and merges go on: in the end the files hold each event once."""
    dice, n = random.Random(5), 0
    for round_ in range(8):
        process.start()
        for _ in range(30):
            log.append(START + round_ * DAY // 3 + n, track(f"u{n % 7}", f"m{n}"), track(f"u{n % 5}", f"n{n}"))
            n += 1
            time.sleep(dice.random() * 0.01)
        time.sleep(0.25 + dice.random() * 0.1)
        assert len(messages(reader)) == 2 * n
        process.end(signal.SIGKILL)
    process.start()
    soon(lambda: all(map(log.is_committed, range(4))))
    process.end(signal.SIGTERM)
    assert from_files(settings) == sorted([f"m{i}" for i in range(n)] + [f"n{i}" for i in range(n)])


def test_stops_at_once_and_flushes(log: Log, process: Process, settings: Settings) -> None:
    """SIGTERM writes what waits, and ends soon, cleanly."""
    process.start(TELLTALE_LAKE_SECONDS="600")
    soon((settings.lake / "store").exists)
    log.append(START, track("ann", "m1"))
    time.sleep(1)
    assert parquet(settings.lake) == 0
    assert process.end(signal.SIGTERM) < 4  # on a busy machine
    assert process.process is not None
    assert process.process.returncode == 0
    assert from_files(settings) == ["m1"]


def test_stops_soon_without_redis(tmp_path: Path) -> None:
    """With the store killed and events waiting it ends soon, and the next start finds the lake as committed."""
    server = embedded(tmp_path / "home")
    settings = Settings(home=tmp_path / "home", redis_url=f"unix://{server.where.socket}", partitions=4, clock="log")
    with connect(settings) as client:
        log = Log(client, create(client, settings))
        process = Process(settings)
        process.start(TELLTALE_LAKE_SECONDS="600")
        soon((settings.lake / "store").exists)
        log.append(START, *(track(f"u{i}", f"m{i}") for i in range(50)))
        time.sleep(1)
    assert server.process is not None
    server.process.kill()
    server.process.wait()
    assert process.end(signal.SIGTERM) < 4  # on a busy machine
    server.restart()
    with connect(settings) as client:
        process.start()
        soon(lambda: all(map(Log(client, open_store(client)).is_committed, range(4))))
        process.end(signal.SIGTERM)
    server.stop()
    assert from_files(settings) == sorted(f"m{i}" for i in range(50))
