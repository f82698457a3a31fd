"""What is due again at night, or on another day than the one that counts it: a plan holds for the first try alone."""

from __future__ import annotations

import sqlalchemy as sa

from flows.delivery_tables import IS_WAITING, deliveries
from flows.lanes import Key
from flows.pacing import Pacer
from flows.recipients import PERSONAL, person, recipients

MANY = 500  # of a lane, looked at in a turn


def put_off(connection: sa.Connection, key: Key, now: int) -> None:
    """Moves what is due in a lane and does not suit the person now: out of quiet hours, onto a day with room.

    It is held for as much longer. Times are ms since 1970.
    """
    channel, target = key
    if channel not in PERSONAL:
        return
    people = recipients.of_ids(connection, [person(target)])
    if not people or (people[0].quiet is None and people[0].daily_cap is None):
        return
    d, pacer = deliveries.c, Pacer(connection, now)
    mine = IS_WAITING, d.channel == channel, d.target == target, d.due_at <= now
    query = sa.select(d.id, d.through_quiet, d.day).where(*mine).order_by(d.due_at).limit(MANY)
    for row in connection.execute(query).all():
        at = pacer.again(people[0], row.day, breaks_quiet=row.through_quiet)
        if at.due == now and row.day in (None, at.day):
            continue
        moved = {"due_at": at.due, "expires_at": d.expires_at + (at.due - now), "day": at.day if row.day else None}
        connection.execute(deliveries.update().where(d.id == row.id).values(moved))
    pacer.save()
