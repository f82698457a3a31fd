"""What deliveries need from time to time: an end of those held back too long, and of what is kept of old ones.

In small transactions, since the drain and the API write to the same tables.
"""

from __future__ import annotations

import asyncio
import logging
import time

import sqlalchemy as sa

from feature_repo.settings import Settings
from flows import database, tracking
from flows.database import SQL_DOWN
from flows.delivery import wall_ms
from flows.delivery_tables import IS_OVER, IS_WAITING, Tally, attempts, bodies, count, deliveries

log = logging.getLogger("telltale.delivery")

BATCH = 500  # rows a transaction
EVERY_S = 60.0
BREATH_S = 0.05  # between two transactions, so that others come between
DAY_MS = 86_400_000
SLACK_MS = 3_600_000  # beyond its time, for which what is due may be late
HELD_BACK = "its time was over before the target could be asked again"


async def upkeep(settings: Settings, engine: sa.Engine) -> None:
    """Until cancelled."""
    while True:
        await asyncio.sleep(EVERY_S)
        try:
            await asyncio.to_thread(_tend, settings, engine, wall_ms())
        except SQL_DOWN as error:
            log.warning("upkeep waits: %s", str(error).partition("\n")[0])


def _tend(settings: Settings, engine: sa.Engine, now: int) -> None:
    while expire(engine, now) == BATCH:
        time.sleep(BREATH_S)
    while settings.delivery_days and forget(engine, now - settings.delivery_days * DAY_MS) == BATCH:
        time.sleep(BREATH_S)


def expire(engine: sa.Engine, now: int) -> int:
    """What is long due, and for longer than its channel would try, is dead; how many at once, at most BATCH."""
    d, tally = deliveries.c, Tally()
    late = (IS_WAITING, d.expires_at < now - SLACK_MS, d.due_at < now - SLACK_MS)
    with engine.begin() as connection:
        database.one_by_one(connection)
        found = connection.execute(sa.select(d.id, d.organisation, d.channel).where(*late).limit(BATCH)).all()
        for row in found:
            tally[row.organisation, row.channel, "WAITING"] -= 1
            tally[row.organisation, row.channel, "DEAD"] += 1
        why = sa.func.coalesce(d.last_error + "; " + HELD_BACK, HELD_BACK)
        dead = deliveries.update().where(d.id.in_([row.id for row in found]))
        if found:
            connection.execute(dead.values(state="DEAD", done_at=now, last_error=why))
            count(connection, tally)
    return len(found)


def forget(engine: sa.Engine, before: int) -> int:
    """Removes deliveries that ended before then, with their attempts and bodies; how many, at most BATCH.

    Of the counts, only that of the dead falls: they tell how many are to be found.
    """
    d, tally = deliveries.c, Tally()
    old = sa.select(d.id, d.organisation, d.channel, d.state, d.body_id).where(IS_OVER, d.done_at < before)
    with engine.begin() as connection:
        database.one_by_one(connection)
        found = connection.execute(old.order_by(d.done_at).limit(BATCH)).all()
        ids = [row.id for row in found]
        if ids:
            connection.execute(attempts.delete().where(attempts.c.delivery_id.in_(ids)))
            tracking.forget(connection, ids)
            connection.execute(deliveries.delete().where(d.into_id.in_(ids)))
            connection.execute(deliveries.delete().where(d.id.in_(ids)))
            _drop_bodies(connection, {row.body_id for row in found if row.body_id})
            tally.update((row.organisation, row.channel, row.state) for row in found if row.state == "DEAD")
            count(connection, Tally({key: -n for key, n in tally.items()}))
    return len(found)


def _drop_bodies(connection: sa.Connection, ids: set[str]) -> None:
    """Those that no delivery needs any more."""
    needed = sa.exists().where(deliveries.c.body_id == bodies.c.id)
    connection.execute(bodies.delete().where(bodies.c.id.in_(ids), ~needed))
