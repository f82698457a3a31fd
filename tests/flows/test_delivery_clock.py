"""Delivery by a clock that is set ahead and back again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import sqlalchemy as sa

from flows import webhooks
from flows.delivery import Onward
from flows.delivery_tables import deliveries
from tests.flows.delivered import START, Delivered, delivered
from tests.flows.receivers import receivers

HOUR = 3_600_000


def test_its_time_never_goes_back() -> None:
    """Where the machine's clock is set back it goes on by itself, until that clock is ahead again."""
    wall, steady = [1_000], [0]
    now = Onward(lambda: wall[0], lambda: steady[0])
    told = []
    for wall[0], steady[0] in ((1_000, 0), (9_000, 10), (2_000, 20), (2_010, 30), (9_100, 40)):
        told.append(now())
    assert told == [1_000, 9_000, 9_010, 9_020, 9_100]


def test_an_endpoint_hears_of_what_is_stored_after_it_was_made(tmp_path: Path) -> None:
    """By the alerts' own order, also where the clock was set back meanwhile."""

    async def run() -> None:
        async with receivers() as heard, delivered(tmp_path) as ours:
            ours.alerts(1)
            made = ours.endpoint(heard.url + "/200")
            with ours.store.engine.begin() as sql:
                webhooks.remove(sql, made.id)
                webhooks.add(sql, msgspec.structs.replace(made, created_at=ours.clock.ms))
            (later,) = ours.alerts(2, stored_at=START - HOUR)
            await ours.until_quiet()
            assert [one.alert_id for one in ours.webhooks_listed()] == [later.id]

    asyncio.run(run())


def test_what_was_planned_by_a_clock_ahead_is_sent_at_the_next_start(tmp_path: Path) -> None:
    """What was to go at once goes at once; what was to wait, waits."""

    async def planned(found: Delivered, url: str) -> None:
        found.endpoint(url)
        found.alerts(1, 2)
        await found.until_quiet()
        at_once = deliveries.c.channel == "webhook"
        ahead = {"state": "WAITING", "done_at": None, "created_at": START + HOUR}
        first, second = (one.id for one in found.webhooks_listed())
        with found.store.engine.begin() as sql:
            for id_, due in ((first, START + HOUR), (second, START + 2 * HOUR)):
                change = sa.update(deliveries).where(at_once, deliveries.c.id == id_)
                sql.execute(change.values(due_at=due, **ahead))

    async def run() -> None:
        async with receivers() as heard:
            async with delivered(tmp_path) as before:
                await planned(before, heard.url + "/200")
            assert len(heard.came) == 2
            async with delivered(tmp_path) as after:
                await after.until_quiet()
                assert [one.state for one in after.webhooks_listed()] == ["DONE", "WAITING"]
            assert len(heard.came) == 3

    asyncio.run(run())
