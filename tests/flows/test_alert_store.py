"""Alerts in SQL: each once, found by what they are, paged without a gap."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from feature_repo.settings import Settings
from flows.alert import alert_id, decode, encode, priority
from flows.alert_store import AlertStore, Filter, matches, open_alerts
from tests.flows.made_alerts import alert
from tests.flows.sql_stores import store

__all__ = ["store"]


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[AlertStore]:
    opened = open_alerts(Settings(home=tmp_path / "new"))
    yield opened
    opened.close()


def found(store: AlertStore, **only: Any) -> list[str]:
    return [s.alert.user for s in store.newest(Filter(**only), limit=100)]


def test_comes_back_as_it_went_in(store: AlertStore) -> None:
    """What is read is what was stored, doubles to the last bit."""
    store.insert([alert(1, reasons=["dokumente: häufig"])])
    assert store.find(alert(1).id) == alert(1, reasons=["dokumente: häufig"])


def test_a_second_insert_changes_nothing(store: AlertStore) -> None:
    """An id is stored once, as it first was, whether it comes again alone or among new ones."""
    store.insert([alert(1, stored_at=5)])
    head = store.insert([alert(1, stored_at=9), alert(2), alert(2)])
    assert found(store) == ["u2", "u1"]
    assert head == store.head()
    stored = store.find(alert(1).id)
    assert stored is not None
    assert stored.stored_at == 5


def test_all_or_none(store: AlertStore) -> None:
    """A batch in which one row cannot be stored stores none."""
    with pytest.raises(sa.exc.IntegrityError):
        store.insert([alert(1), msgspec.structs.replace(alert(2), user=None)])
    assert found(store) == []


@pytest.mark.parametrize(
    ("only", "users"),
    [
        ({}, ["u4", "u3", "u2", "u1"]),
        ({"organisation": "other"}, ["u4"]),
        ({"organisation": "acme", "type": "LIKELY_TO_BUY"}, ["u2"]),
        ({"priority": "LOW"}, ["u3"]),
        ({"user": "u2"}, ["u2"]),
        ({"since": 1_003}, ["u4", "u3", "u2"]),
        ({"until": 1_003}, ["u1"]),
        ({"since": 1_003, "until": 1_005}, ["u3", "u2"]),
        ({"min_score": 0.9}, ["u3"]),
        ({"organisation": "acme", "user": "u4"}, []),
        ({"status": "DELIVERED"}, ["u2"]),
        ({"withheld": True}, ["u3"]),
        ({"withheld": False}, ["u4", "u2", "u1"]),
    ],
)
def test_filters(store: AlertStore, only: dict[str, Any], users: list[str]) -> None:
    """Each filter keeps what it names, newest first, and filters join by and; live alerts pass as stored ones do."""
    store.insert([alert(1), alert(2, type="LIKELY_TO_BUY", status="DELIVERED")])
    store.insert([alert(3, priority="LOW", score=0.9, withheld=True)])
    store.insert([alert(4, organisation="other")])
    assert found(store, **only) == users
    assert [s.alert.user for s in store.newest(Filter(), 9) if matches(Filter(**only), s.alert)] == users


def test_another_organisation_does_not_see_it(store: AlertStore) -> None:
    """An id alone does not open another organisation's alert."""
    store.insert([alert(1)])
    assert store.find(alert(1).id, "other") is None
    assert store.find(alert(1).id, "acme") == alert(1)


def test_pages_show_each_once_while_new_ones_arrive(store: AlertStore) -> None:
    """Walking down by `before` meets each alert that was there once, in the order of time, whatever is added where."""
    times = [5, 9, 9, 9, 1, 3, 7, 9, 2, 5]
    store.insert([alert(n, scored_at=at) for n, at in enumerate(times)])
    seen: list[str] = []
    before = None
    while page := store.newest(Filter(), 3, before):
        seen += [s.alert.user for s in page]
        before = page[-1].place
        store.insert([alert(100 + len(seen), scored_at=9), alert(200 + len(seen), scored_at=10)])
    assert seen == ["u7", "u3", "u2", "u1", "u6", "u9", "u0", "u5", "u8", "u4"]


def test_following_meets_each_in_order(store: AlertStore) -> None:
    """`after` gives what is newer than a number, oldest first."""
    store.insert([alert(n) for n in range(5)])
    first = store.after(Filter(), 0, 2)
    rest = store.after(Filter(), first[-1].seq, 10)
    assert [s.alert.user for s in first + rest] == ["u0", "u1", "u2", "u3", "u4"]


def test_numbers_are_never_given_twice(store: AlertStore) -> None:
    """After the newest row is deleted its number stays used, so a stream resumes without a mix-up."""
    head = store.insert([alert(1)])
    with store.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM alerts")
    assert store.insert([alert(2)]) > head


def test_many_processes_open_a_new_database_at_once(tmp_path: Path) -> None:
    """The API and the drain start together in an empty home: both find the table."""
    code = (
        "import sys, time; from pathlib import Path; from feature_repo.settings import Settings;"
        "from flows.alert_store import open_alerts; time.sleep(max(0, float(sys.argv[2]) - time.time()));"
        "open_alerts(Settings(home=Path(sys.argv[1]))).insert([])"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "new"), str(time.time() + 2)]
    processes = [subprocess.Popen(command) for _ in range(4)]
    assert [process.wait(20) for process in processes] == [0] * 4


def test_two_writers_at_once_store_each_once(store: AlertStore) -> None:
    """Threads that insert the same alerts at the same time leave one row each."""
    both = [threading.Thread(target=lambda: [store.insert([alert(n)]) for n in range(30)]) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert sorted(found(store)) == sorted(f"u{n}" for n in range(30))


@pytest.mark.parametrize("by", ["time", "type", "priority", "user", "status"])
def test_listing_walks_an_index(sqlite: AlertStore, by: str) -> None:
    """Each equality filter is answered from its index in order: nothing is sorted, whatever the table's size."""
    equal = 'organisation = "a"' + (f' AND "{by}" = "b"' if by != "time" else "")
    rest = "(scored_at, seq) < (9, 9) AND scored_at >= 3 ORDER BY scored_at DESC, seq DESC LIMIT 5"
    with sqlite.engine.connect() as connection:
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN SELECT * FROM alerts WHERE {equal} AND {rest}")
        plan = " ".join(row[3] for row in rows)
    assert f"alerts_by_{by} " in plan
    assert "TEMP B-TREE" not in plan


def test_the_withheld_have_an_index(sqlite: AlertStore) -> None:
    """So that they are listed without a walk through all the others."""
    with sqlite.engine.connect() as connection:
        query = "SELECT * FROM alerts WHERE organisation = 'a' AND withheld IS 1 ORDER BY scored_at DESC, seq DESC"
        plan = " ".join(row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}"))
    assert "alerts_withheld " in plan
    assert "TEMP B-TREE" not in plan


def test_a_database_of_an_earlier_version_is_brought_up(tmp_path: Path) -> None:
    """Alerts stored before there was a status are pending since they were scored, and find the same indexes."""
    with closing(sqlite3.connect(tmp_path / "telltale.db")) as old:
        old.executescript((Path(__file__).parent / "alerts_before_status.sql").read_text())
    for _ in range(2):  # the second time there is nothing to do
        store = open_alerts(Settings(home=tmp_path))
    assert store.find(alert(1).id) == alert(1, status_at=alert(1).scored_at)
    fresh = open_alerts(Settings(home=tmp_path / "fresh"))
    both = [sa.inspect(one.engine) for one in (store, fresh)]
    names = [{index["name"] for index in look.get_indexes("alerts")} for look in both]
    columns = [[c["name"] for c in look.get_columns("alerts")] for look in both]
    for one in (store, fresh):
        one.close()
    assert names[0] == names[1]
    assert columns[0] == columns[1]


def test_commits_are_on_disk(sqlite: AlertStore) -> None:
    """SQLite writes ahead and syncs each commit."""
    with sqlite.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL


def test_ids_tell_episodes_apart() -> None:
    """The id is a function of what opened the episode, and of each part of it."""
    parts = ("acme", "ann", "LIKELY_TO_SELL", "5-0")
    other = {("x", *parts[1:]), (parts[0], "x", *parts[2:]), (*parts[:2], "x", parts[3]), (*parts[:3], "x")}
    assert len({alert_id(*p) for p in {parts, *other}}) == 5
    assert alert_id(*parts) == alert_id(*parts)
    assert alert_id("ac", "meann", *parts[2:]) != alert_id(*parts)


def test_priority_follows_score_and_confidence() -> None:
    """A level wants both its score and its confidence."""
    given = [(0.8, 0.75), (0.8, 0.74), (0.6, 0.6), (0.6, 0.59), (0.4, 0.5), (0.39, 1.0)]
    assert [priority(*pair) for pair in given] == ["CRITICAL", "HIGH", "HIGH", "MEDIUM", "MEDIUM", "LOW"]


def test_the_json_of_an_alert_is_read_back() -> None:
    """What the engine writes to the stream is the alert that the drain reads."""
    assert decode(encode(alert(1))) == alert(1)
