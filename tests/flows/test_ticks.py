"""Time that passes without events."""

from __future__ import annotations

from typing import cast

from feature_repo import keys
from flows.housekeeping import Housekeeping
from flows.state import identity
from flows.store import dial
from tests.flows import streams_made as made
from tests.flows.both_sides import VOCABULARY
from tests.flows.ground import Ground, event
from tests.flows.streams_made import DAY, START


def test_counts_fall_by_themselves(ground: Ground) -> None:
    """Without any event, a day's ticks let windows empty and mark everybody dormant, in memory or not."""
    for i in range(0, 120, 8):
        ground.post(*(event(f"u{j % 40}", START + j, j) for j in range(i, i + 8)))
    engine = ground.engine()
    made.drain(engine)
    assert ground.features("u7")["doc_access_count_30d"] == 3
    for day in (1, 31, 400):
        ground.pass_time(START + day * DAY)
        made.drain(engine)
        assert ground.wrong() == {}
    found = ground.features("u7")
    assert (found["doc_access_count_30d"], found["days_since_doc_access"], found["hours_since_last_event"]) == (
        0,
        365,
        8760,
    )


def test_ticks_of_a_day_name_everybody_once(ground: Ground) -> None:
    """Each person is refreshed at one minute of the day."""
    ground.post(*(event(f"u{i}", START + i, i) for i in range(8)))
    made.drain(ground.engine())
    sets = [ground.client.smembers(keys.slice_of(p, m)) for p in range(4) for m in range(1440)]
    members = [int(uid) % (1 << 64) for each in cast(list[set[bytes]], sets) for uid in each]
    assert sorted(members) == sorted(identity(ground.store, f"org/u{i}".encode()) for i in range(8))


def test_more_people_than_fit_are_refreshed(ground: Ground) -> None:
    """A tick that names more people than the engine keeps in memory refreshes them all."""
    for i in range(0, 160, 8):
        ground.post(*(event(f"u{j}", START + j, j) for j in range(i, i + 8)))
    engine = ground.engine()
    made.drain(engine)
    ground.pass_time(START + 31 * DAY)
    made.drain(engine)
    assert {made.feature_time(ground.client, VOCABULARY, f"u{i}") for i in range(160)} == {START + 31 * DAY}
    assert ground.wrong() == {}
    assert len(engine.people.table) <= 16


def test_a_log_that_is_worked_goes_though_nothing_comes_any_more(ground: Ground) -> None:
    """The engine hears of its last write with the next, and to a full store there is none."""
    for nth in range(3):
        ground.post(*(event(f"u{i}", START + nth, 20 * nth + i) for i in range(20)))
    engine = ground.engine()
    made.drain(engine)
    for p, partition in engine.partitions.items():
        ground.client.set(keys.lake_position(p), partition.position)
        partition.position = b"0-0"  # what it has not heard of yet
    keeping = Housekeeping(engine, ground.client, dial(ground.settings))
    keeping.stop()
    keeping._trim()
    keeping._connection.close()
    assert [ground.client.xlen(keys.log(p)) <= 1 for p in range(4)] == [True] * 4


def test_housekeeping_lets_time_pass(ground: Ground) -> None:
    """Where the log brings its own time, the minutes that pass in it are ticked in every partition."""
    ground.post(*(event(f"u{i}", START + i, i) for i in range(8)))
    engine = ground.engine()
    made.drain(engine)
    keeping = Housekeeping(engine, ground.client, dial(ground.settings))
    keeping.stop()
    keeping._round(1)
    ground.post(event("u1", START + 31 * DAY, 9))
    made.drain(engine)
    keeping._round(2)
    made.drain(engine)
    keeping._connection.close()
    assert keeping.failed is None
    assert ground.features("u1")["doc_access_count_30d"] == 1
    assert {ground.features(f"u{i}")["doc_access_count_30d"] for i in (0, 2, 3, 4, 5, 6, 7)} == {0}
    ticked = {int(cast(bytes, ground.client.get(keys.tick(p)))) for p in range(4)}
    assert ticked == {(START + 31 * DAY) // 60_000}
