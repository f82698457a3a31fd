"""What the process that delivers asks of SQL each second reads a few rows, however many deliveries are done."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from flows import delivery_figures, delivery_list, delivery_upkeep
from flows.channel import Gone, Result, Sent
from flows.delivery_list import Which
from flows.delivery_sender import Sender
from flows.ended import Ended
from flows.everywhere import Everywhere
from flows.lanes import Draft, Lanes
from flows.outbox import Outbox
from tests.flows.delivered import START, endpoint, stored
from tests.flows.made_alerts import alert
from tests.flows.test_delivery import Told

PARTIAL = ("active", "waiting", "dead", "oldest")  # indexes over the rows of one state
SMALL = ("delivery_nudges", "delivery_sender", "delivery_counts", *(f"INDEX deliveries_{name} " for name in PARTIAL))


WHICH = (  # that people and the API ask for
    Which(organisation="acme", channel="webhook", target="wh_1"),
    Which(organisation="acme"),
    Which(organisation="acme", state="DEAD"),
    Which(organisation="acme", alert="al_1"),
    Which(state="DEAD"),
)


def explained(engine: sa.Engine) -> list[str]:
    """How SQLite goes about each statement from here on: a line a step, and the statement."""
    seen: list[str] = []

    def explain(connection: sa.Connection, cursor: Any, statement: str, given: Any, *_: object) -> None:
        if statement.startswith(("SELECT", "UPDATE", "DELETE")):
            one = given[0] if isinstance(given, list) else given
            found = cursor.connection.execute(f"EXPLAIN QUERY PLAN {statement}", one).fetchall()
            seen.extend(f"{row[3]} | {statement[:300]}" for row in found)

    sa.event.listen(engine, "before_cursor_execute", explain)
    return seen


def scans(seen: list[str]) -> list[str]:
    """Steps that go through a whole table, or sort."""
    told = [line for line in seen if line.startswith(("SCAN", "USE TEMP B-TREE FOR ORDER BY"))]
    return [line for line in told if not any(name in line.partition("|")[0] for name in SMALL)]


def test_what_is_under_way_is_counted_right_by_two_threads() -> None:
    """Turns take on one, attempts end on the other: a count that drifted would close the channel in the end."""
    lanes, key, many = Lanes({"webhook": Told()}), ("webhook", "wh_1"), 50_000
    lanes.active["webhook"] = lanes.of(key).active = 100 * many

    def take() -> None:
        for _ in range(many):
            draft = Draft(lanes, START)
            draft.take(key)
            draft.commit()

    often, ended = sys.getswitchinterval(), 0
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(1) as other:
            taking = other.submit(take)
            while not taking.done():  # asked seldom: asking itself takes turns with the other
                for _ in range(1_000):
                    lanes.ended(key)
                ended += 1_000
    finally:
        sys.setswitchinterval(often)
    assert lanes.active["webhook"] == lanes.of(key).active == 101 * many - ended


def test_what_is_asked_is_found_by_indexes(tmp_path: Path) -> None:
    """Taking over, planning, taking, recording, listing, retrying, upkeep and figures."""
    with stored(tmp_path) as store:
        endpoint(store.engine, "https://unused.example/")
        store.insert([alert(n, stored_at=START) for n in range(9)])
        seen = explained(store.engine)
        outbox = Outbox(store.engine, Everywhere(), {"webhook": Told()}, Sender("test"))
        outbox.begin(START)
        assert outbox.news()
        lanes = Lanes({"webhook": Told()})
        taken = outbox.turn(Draft(lanes, START), [], START).taken
        results: list[Result] = [Sent(), Gone("no")]
        ended = [Ended(one.parcel, result, START, 1) for one, result in zip(taken, results, strict=True)]
        outbox.turn(Draft(lanes, START), ended, START)
        with store.writing() as sql:
            for which in WHICH:
                delivery_list.listed(sql, which, 50)
                delivery_list.tried(sql, msgspec.structs.replace(which, id="dl_1"), 50)
            delivery_list.retry_dead(sql, Which(), START)
            delivery_list.cancel(sql, WHICH[0], "no", START)
            delivery_figures.figures(sql, "acme")
            delivery_figures.oldest(sql)
        delivery_upkeep.expire(store.engine, START)
        delivery_upkeep.forget(store.engine, START + 1)
    assert len(seen) > 40
    assert scans(seen) == []
