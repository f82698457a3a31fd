"""Dates that are over: a file for all partitions, the same rows whatever is killed when, found without reading all."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest
import redis

from feature_repo import keys
from feature_repo.settings import Settings
from flows import lake
from flows import lake_files as files
from flows.entry import tick
from flows.lake import Lake
from flows.lake_files import EVENTS, File
from flows.lake_read import LakeReader, Window
from flows.lake_shelf import LakeError
from flows.store import Store
from tests.flows.made_logs import DAY, START, VOCABULARY, Log, track
from training.past_lake import from_lake
from training.relogged import entries

PATIENCE = 60.0
PEOPLE = [f"u{i}" for i in range(40)]  # some in each of the four partitions


class Machine:
    """The lake by hand."""

    def __init__(self, settings: Settings, client: redis.Redis, store: Store) -> None:
        self.settings, self.client, self.store = settings, client, store
        self.start()

    def start(self) -> None:
        """Again after a kill, when it had started before."""
        self.lake = Lake(self.settings, self.client, self.store, lambda: 0.0)
        self.lake.recover()

    def flush(self) -> None:
        while (batches := self.lake.read()) and batches[0]:
            self.lake.take(batches)
        self.lake.flush()

    def pass_midnight(self, day: int) -> None:
        """Nothing happens on the day but that time passes in every partition."""
        for p in range(self.store.partitions):
            self.client.xadd(keys.log(p), {"e": tick(1, 2)}, id=f"{START + day * DAY + DAY // 2}-*")
        self.flush()

    def look(self) -> None:
        self.lake.dates._look()

    def merge(self) -> None:
        """All that is due."""
        self.look()
        while self.lake.dates._kinds[EVENTS].step():
            pass

    def merge_and_die(self, steps: int) -> None:
        """A kill amidst: what is half-written stays."""
        self.look()
        for _ in range(steps):
            self.lake.dates._kinds[EVENTS].step()
        half = list(self.settings.lake.glob("events/*/.*.new"))
        kept = {path: path.read_bytes() for path in half}
        self.lake.dates.stop()
        for path, content in kept.items():
            path.write_bytes(content)
        self.die()

    def merge_and_die_removing(self, dice: random.Random) -> None:
        """A kill when the shared file is there and some of its pieces still are."""
        before = {file.path: file.path.read_bytes() for file in self.files()}
        self.merge()
        for path, content in before.items():
            if not path.exists() and dice.random() < 0.5:
                path.write_bytes(content)
        self.die()

    def die(self) -> None:
        self.lake.close()
        self.start()

    def files(self) -> list[File]:
        return files.everything(self.settings.lake)


@pytest.fixture
def machine(
    settings: Settings, client: redis.Redis, store: Store, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Machine]:
    monkeypatch.setattr(lake, "WAIT_MS", 0)
    made = Machine(settings, client, store)
    yield made
    made.lake.close()


def lived(log: Log, machine: Machine, days: int = 3) -> list[str]:
    """Everybody does something every day, in two flushes; the messages."""
    sent = []
    for day in range(days):
        for part in range(2):
            at = START + day * DAY + part * 3_600_000
            for i, user in enumerate(PEOPLE):
                sent.append(f"m{day}-{part}-{i:02}")
                log.append(at + i, track(user, sent[-1]))
            machine.flush()
    return sorted(sent)


def messages(reader: LakeReader, window: Window = Window()) -> list[str]:  # noqa: B008  # it is frozen
    return sorted(reader.events(window)["message_id"].to_pylist())


def from_files(settings: Settings) -> list[str]:
    """As somebody else's DuckDB sees the files themselves."""
    with duckdb.connect() as connection:
        query = f"SELECT message_id FROM read_parquet('{settings.lake}/events/*/*.parquet')"
        return sorted(row[0] for row in connection.execute(query).fetchall())


def test_a_date_that_is_over_is_one_file(log: Log, machine: Machine, settings: Settings, reader: LakeReader) -> None:
    """The date on which every partition may still get something stays as it is; the rows are the same."""
    sent = lived(log, machine)
    machine.merge()
    by_date = [[f for f in machine.files() if f.date == date] for date in sorted({f.date for f in machine.files()})]
    assert [len(them) for them in by_date[:2]] == [1, 1]
    assert len(by_date[2]) >= 4
    assert messages(reader) == from_files(settings) == sent


def test_a_date_is_over_when_time_has_passed_in_every_partition(log: Log, machine: Machine) -> None:
    """As long as one partition has not read past it, its files stay apart; a tick will do."""
    for user in PEOPLE:
        log.append(START, track(user, user))
    machine.flush()
    apart = len(machine.files())
    log.append(START + DAY, track(PEOPLE[0], "next"))
    machine.flush()
    machine.merge()
    assert len(machine.files()) == apart + 1 > 4
    machine.pass_midnight(1)
    machine.merge()
    assert len(machine.files()) == 2


def test_a_row_group_holds_one_partition_in_the_logs_order(log: Log, machine: Machine) -> None:
    """So a partition's rows are found by the statistics, and come as they were logged."""
    lived(log, machine, days=2)
    machine.merge()
    (file,) = (f for f in machine.files() if f.shared)
    with pq.ParquetFile(file.path) as opened:
        groups = [opened.read_row_group(i).to_pydict() for i in range(opened.num_row_groups)]
        assert [set(group["partition"]) for group in groups] == [{0}, {1}, {2}, {3}]
        assert [files.row_groups(opened, file, p) for p in range(4)] == [[0], [1], [2], [3]]
    assert all(group["logged_at"] == sorted(group["logged_at"]) for group in groups)


def test_who_and_which_partition(log: Log, machine: Machine, reader: LakeReader) -> None:
    """One person, or one partition, of shared files and others together."""
    sent = lived(log, machine)
    machine.merge()
    assert messages(reader, Window(users=("acme/u3",))) == [m for m in sent if m.endswith("-03")]
    apart = [messages(reader, Window(partitions=(p,))) for p in range(4)]
    assert all(apart)
    assert sorted(m for them in apart for m in them) == sent
    assert len(messages(reader, Window(users=("acme/u3", "acme/u4"), since=START + 2 * DAY))) == 4


def test_training_and_rebuild_read_the_same(log: Log, machine: Machine, settings: Settings) -> None:
    """The same events in the same order, whether dates were merged or not."""
    lived(log, machine)

    def seen() -> tuple[list[Any], list[Any], dict[int, Any]]:
        past = from_lake(settings.lake, VOCABULARY)
        again = [(e.partition, e.id, e.draft.names) for e in entries(settings.lake, VOCABULARY)]
        people = past.names.take(past.person).to_pylist()
        return list(zip(people, past.now.tolist(), strict=True)), again, files.lasts(settings.lake)

    before = seen()
    machine.merge()
    assert sum(f.shared for f in machine.files()) == 2
    assert seen() == before
    assert [id_ for _, id_, _ in before[1]] == sorted(id_ for _, id_, _ in before[1])


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_killed_when(seed: int, log: Log, machine: Machine, settings: Settings, reader: LakeReader) -> None:
    """Random appends over days, merges, kills amidst and before the pieces went: a reader sees each event once."""
    dice, at, sent = random.Random(seed), START, 0
    for _ in range(24):
        for _ in range(dice.randrange(5)):
            at += dice.choice((1, 1_000, DAY // 3))
            log.append(at, *(track(dice.choice(PEOPLE), f"m{sent + i}") for i in range(6)))
            sent += 6
        if dice.random() < 0.3:
            at = START + ((at - START) // DAY + 1) * DAY + DAY // 2
            machine.pass_midnight((at - START) // DAY)
        dice.choice(
            (
                machine.flush,
                machine.merge,
                machine.die,
                lambda: machine.merge_and_die(dice.randrange(6)),
                lambda: machine.merge_and_die_removing(dice),
            )
        )()
        assert len(messages(reader)) == len(set(messages(reader))) == sent
    machine.pass_midnight((at - START) // DAY + 1)
    machine.die()
    machine.merge()
    assert from_files(settings) == sorted(f"m{i}" for i in range(sent))
    assert all(f.shared for f in machine.files() if len([g for g in machine.files() if g.date == f.date]) > 1)
    assert not list(settings.lake.glob("**/*.new"))


def test_pandas_reads_while_a_merge_is_half_way(log: Log, machine: Machine, settings: Settings) -> None:
    """What is half-written is under a name that Arrow passes over."""
    sent = lived(log, machine, days=2)
    machine.look()
    machine.lake.dates._kinds[EVENTS].step()
    assert list(settings.lake.glob("**/*.new"))
    assert sorted(pd.read_parquet(settings.lake / "events")["message_id"]) == sent


def test_what_comes_later_for_a_shared_date_is_kept(
    log: Log, machine: Machine, settings: Settings, reader: LakeReader
) -> None:
    """After a rebuild of a quiet partition its log may stand in a date that was over: nothing of it is superseded."""
    sent = lived(log, machine, days=1)
    for file in files.share(machine.files()):
        assert file is None
    machine.die()
    for i, user in enumerate(PEOPLE):
        log.append(START + 7_200_000 + i, track(user, f"n{i:02}"))
    expected = sorted([*sent, *(f"n{i:02}" for i in range(len(PEOPLE)))])
    machine.flush()
    machine.die()
    machine.pass_midnight(1)
    machine.merge()
    assert messages(reader) == from_files(settings) == expected
    again = [e.id for e in entries(settings.lake, VOCABULARY)]
    assert len(again) == len(expected)
    assert again == sorted(again)


def test_what_the_log_no_longer_has_is_not_written_again(log: Log, machine: Machine, client: redis.Redis) -> None:
    """When Redis went back in time before a shared file the lake refuses to start, naming the file."""
    lived(log, machine, days=1)
    machine.pass_midnight(1)
    machine.merge()
    for p in range(4):
        client.delete(keys.lake_position(p), keys.log(p))
    machine.lake.close()
    with pytest.raises(LakeError, match=r"0_3-.*back in time"):
        machine.start()


def test_a_position_that_was_lost_is_found_in_the_shared_file(
    log: Log, machine: Machine, client: redis.Redis, settings: Settings
) -> None:
    """With the log still there, nothing is written twice."""
    sent = lived(log, machine, days=2)
    machine.merge()
    for p in range(4):
        client.delete(keys.lake_position(p))
    machine.die()
    assert all(client.get(keys.lake_position(p)) for p in range(4))
    machine.flush()
    assert from_files(settings) == sent


def test_a_large_date_is_several_files(
    log: Log, machine: Machine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Partitions share a file up to its full size, and one that fills a file alone keeps its own."""
    monkeypatch.setattr(files, "FULL", 70)
    sent = lived(log, machine, days=1)
    for i in range(80):
        log.append(START + DAY // 2 + i, track(PEOPLE[0], f"n{i:02}"))
    machine.flush()
    machine.pass_midnight(1)
    machine.merge()
    assert any(f.shared for f in machine.files())
    assert max(map(files.rows, machine.files())) >= 70
    assert all(files.rows(f) <= 70 for f in machine.files() if f.shared)
    assert from_files(settings) == sorted([*sent, *(f"n{i:02}" for i in range(80))])


def test_a_date_that_goes_amidst_its_merge(log: Log, machine: Machine, settings: Settings) -> None:
    """TELLTALE_LAKE_DAYS removes it, and the merge is given up; the next date goes on."""
    sent = lived(log, machine, days=3)
    machine.look()
    machine.lake.dates._kinds[EVENTS].step()
    shutil.rmtree(settings.lake / "events" / "date=2024-10-04")
    machine.merge()
    assert [f.date for f in machine.files() if f.shared] == ["2024-10-05"]
    assert from_files(settings) == [m for m in sent if not m.startswith("m0")]


def test_merging_waits_while_events_come(log: Log, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """With events in every read a step is taken each second at most, and all at once when there are none."""
    lived(log, machine, days=4)
    steps, now = list[float](), [0.0]
    shared = machine.lake.dates._kinds[EVENTS]
    step = shared.step

    def noted() -> bool:
        steps.append(now[0])
        return step()

    machine.look()
    monkeypatch.setattr(machine.lake.dates, "_clock", lambda: now[0])
    monkeypatch.setattr(shared, "step", noted)
    for _ in range(25):
        now[0] += 0.1
        machine.lake.dates.work(busy=True)
    assert len(steps) == 2
    machine.lake.dates.work(busy=False)
    assert sum(f.shared for f in machine.files()) == 3


class Process:
    """`python -m flows.lake`, started and killed at will."""

    def __init__(self, settings: Settings) -> None:
        given = {"HOME": str(settings.home), "REDIS_URL": settings.redis_url, "LAKE_SECONDS": "0"}
        self.environ = os.environ | {f"TELLTALE_{name}": value for name, value in given.items()}

    def start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-m", "flows.lake"], env=self.environ)


def test_a_lake_of_old_becomes_small(log: Log, machine: Machine, settings: Settings, reader: LakeReader) -> None:
    """Told to end while it merges what stands from before it does so at once; then it is killed in a loop."""
    sent = lived(log, machine, days=40)
    machine.lake.close()
    assert len(machine.files()) >= 160
    dice, process = random.Random(1), Process(settings)
    for round_ in range(6):
        running, until = process.start(), len(machine.files()) - 10
        soon(lambda until=until: len(machine.files()) <= max(until, 44))  # type: ignore[misc]  # bound at once
        time.sleep(dice.random() * 0.1)
        told = time.monotonic()
        running.send_signal(signal.SIGKILL if round_ else signal.SIGTERM)
        ended = running.wait(PATIENCE)
        if not round_:
            assert (ended, time.monotonic() - told < 4) == (0, True)  # on a busy machine
        assert messages(reader) == sent
    running = process.start()
    soon(lambda: len(machine.files()) <= 39 + 4)
    running.kill()
    running.wait()
    assert sum(f.shared for f in machine.files()) == 39
    assert from_files(settings) == sent


def soon(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
