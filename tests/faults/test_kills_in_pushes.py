"""kill -9 of anything while rows are pushed: each row acknowledged is served, in the lake, and counted once.

`KILLS=200 make faults` goes on for longer.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest

from feature_repo.settings import Settings
from serving.client import Closed, Door, Turned
from serving.pushed import AT_ONCE
from serving.supervisor import environment
from tests.faults.rounds import KILLS
from tests.faults.test_kills import CLOCK, LAST, SPAN, kill_in_a_loop, until_worked
from tests.faults.test_kills import post as post_events
from tests.running_up import TELLTALE, Up, door_of, eventually, start

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
PEOPLE, BATCH, MANY = 30, 20, AT_ONCE + 300  # many: more than one transaction takes
FIELDS = {
    "user_finances": ("credit_enquiries_90d", "home_value", "mortgage_balance"),
    "lead_crm": ("days_since_contact", "engagement_score", "source_quality"),
}
ENTITY = {"user_finances": "user", "lead_crm": "lead"}


class Row(msgspec.Struct, frozen=True):
    """One row as a writer pushed it."""

    view: str
    id: str
    at: int
    values: tuple[float, ...]


class Pusher(threading.Thread):
    """Pushes rows of one view until told to end, each batch until it is acknowledged; now and then some again."""

    def __init__(self, door: Door, view: str, ids: range, batch: int, ending: threading.Event) -> None:
        super().__init__(daemon=True)
        self.door, self.view, self.ids, self.batch, self.ending = door, view, ids, batch, ending
        self.dice = random.Random(ids.start)
        self.acknowledged: list[Row] = []
        self.times: set[tuple[str, int]] = set()

    def run(self) -> None:
        while not self.ending.is_set():
            fresh = [self.made(i) for i in self.dice.sample(self.ids, self.batch)]
            again = self.dice.sample(self.acknowledged, 3) if self.acknowledged else []
            post(self.door, self.view, [*fresh, *again])
            self.acknowledged += fresh
        self.door.close()

    def made(self, number: int) -> Row:
        """Of a moment of its own, before or after those that came before."""
        who, at = f"e{number}", 0
        while not at or (who, at) in self.times:
            at = LAST - self.dice.randrange(SPAN)
        self.times.add((who, at))
        return Row(self.view, who, at, (self.dice.randrange(9), *(self.dice.randrange(10**6) / 4 for _ in range(2))))


def post(door: Door, view: str, rows: list[Row]) -> None:
    columns = dict(zip(FIELDS[view], zip(*(row.values for row in rows), strict=True), strict=True))
    stamps = [datetime.fromtimestamp(row.at / 1000, UTC).isoformat() for row in rows]
    df: dict[str, Any] = {f"{ENTITY[view]}_id": [row.id for row in rows], "event_timestamp": stamps, **columns}
    body, deadline = msgspec.json.encode({"push_source_name": f"{view}_push", "df": df}), time.monotonic() + 60
    while True:
        with suppress(Closed, Turned):
            assert door.post("/push", body, {}) == b""
            return
        assert time.monotonic() < deadline, "the door stayed away for a minute"
        time.sleep(0.05)


@pytest.fixture
def up(tmp_path: Path, free_port: int) -> Iterator[Up]:
    """A whole Telltale, of two partitions, that takes time from events."""
    settings = Settings(home=tmp_path, port=free_port, clock="log", partitions=2, lake_seconds=1, lake_features=1.0)
    with closing(start(settings)) as running:
        yield running


def test_kills_lose_no_row_and_count_none_twice(up: Up) -> None:
    """What is served is of each entity the newest row, of a person also in what the stream makes of it."""
    with closing(door_of(up)) as door:
        post_events(door, CLOCK)
        ending = threading.Event()
        of_people = [Pusher(door.again(), "user_finances", range(n, n + PEOPLE), BATCH, ending) for n in (0, 100)]
        of_leads = [Pusher(door.again(), "lead_crm", range(200, 200 + n), b, ending) for n, b in ((PEOPLE, BATCH),)]
        of_leads.append(Pusher(door.again(), "lead_crm", range(1000, 1000 + MANY), MANY, ending))
        pushers = [*of_people, *of_leads]
        for pusher in pushers:
            pusher.start()
        killed = kill_in_a_loop(up, KILLS)
        ending.set()
        for pusher in pushers:
            pusher.join(90)
        assert not any(pusher.is_alive() for pusher in pushers)
        rows = [row for pusher in pushers for row in pusher.acknowledged]
        print(f"killed {dict(killed)}, {len(rows)} rows, of large pushes {len(of_leads[1].acknowledged)}")
        processed = until_worked(door)["processed"]
        check_served(door, rows)
        assert up.end() < 5.0
        with closing(start(up.settings)) as again:
            eventually(door, "/readyz")
            check_served(door, rows)
            check_lake(again, rows)
            people = sum(row.view == "user_finances" for row in rows)
            check_consistent(again, len({row.id for row in rows if row.view == "user_finances"}))
            check_leads(again, int(processed) - len(CLOCK) - people)
        check_rebuilt(up, rows)


def run(up: Up, *words: str) -> str:
    done = subprocess.run(
        [*TELLTALE, *words], env=environment(up.settings), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check_consistent(up: Up, people: int) -> None:
    """What was served meanwhile follows from the rows that the lake holds."""
    report = msgspec.json.decode(run(up, "consistency", "--json", "--sample", "1000"))
    assert (report["differ"], 2 * report["people"] > people) == (0, True), report


def check_rebuilt(up: Up, rows: list[Row]) -> None:
    """The store is thrown away, and comes back from the lake with all that was served."""
    shutil.rmtree(up.settings.home / "store")
    run(up, "rebuild")
    with closing(start(up.settings)) as again, closing(door_of(again)) as door:
        check_served(door, rows)


def check_served(door: Door, rows: list[Row]) -> None:
    newest = {(row.view, row.id): row for row in sorted(rows, key=lambda row: row.at)}
    for view, fields in FIELDS.items():
        ids = [id_ for v, id_ in newest if v == view]
        found = served(door, ENTITY[view], ids, [f"{view}:{name}" for name in fields])
        assert found == {id_: newest[view, id_].values for id_ in ids}
    people = [id_ for view, id_ in newest if view == "user_finances"]
    found = served(door, "user", people, ["user_features:estimated_equity"])
    assert found == {id_: (equity(newest["user_finances", id_]),) for id_ in people}


def equity(row: Row) -> float:
    return row.values[1] - row.values[2]


def served(door: Door, entity: str, ids: list[str], features: list[str]) -> dict[str, tuple[float | None, ...]]:
    body = msgspec.json.encode({"features": features, "entities": {f"{entity}_id": ids}})
    results = msgspec.json.decode(door.post("/get-online-features", body, {}))["results"]
    return dict(zip(ids, zip(*(result["values"] for result in results[1:]), strict=True), strict=True))


def check_lake(up: Up, rows: list[Row]) -> None:
    """Each row is there, and of what was pushed again one message."""
    expected, deadline = Counter(rows), time.monotonic() + 60
    while (found := in_lake(up)) != expected:
        assert not found - expected
        assert time.monotonic() < deadline, f"{(expected - found).total()} rows of {len(rows)} are not in the lake"
        time.sleep(0.2)


def in_lake(up: Up) -> Counter[Row]:
    files = str(up.settings.lake / "events" / "**" / "*.parquet")
    query = "select any_value(raw) from read_parquet(?) where type = 'push' group by partition, mid"
    with duckdb.connect() as db, suppress(duckdb.IOException):  # no file yet, or one that was merged as we looked
        return Counter(map(row_of, (raw for (raw,) in db.execute(query, [files]).fetchall())))
    return Counter()


def check_leads(up: Up, expected: int) -> None:
    """They were counted as often as they came: nothing is made of them, so nobody remembers their messages."""
    files = str(up.settings.lake / "events" / "**" / "*.parquet")
    query = "select count(*) from read_parquet(?) where type = 'push' and name = 'lead_crm'"
    found, deadline = [(-1,)], time.monotonic() + 60
    while found != [(expected,)]:  # while files are merged, a row may be in two
        assert time.monotonic() < deadline, f"expected {expected} rows of leads, found {found}"
        with duckdb.connect() as db, suppress(duckdb.IOException):
            found = db.execute(query, [files]).fetchall()


def row_of(raw: str) -> Row:
    told = msgspec.json.decode(raw)
    at = round(datetime.fromisoformat(told["timestamp"]).timestamp() * 1000)
    return Row(told["view"], told["id"], at, tuple(told["features"].values()))
