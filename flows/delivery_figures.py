"""How many deliveries there are of each kind: counted as they change, so that asking is quick with millions of them."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from flows.delivery_tables import IS_WAITING, counts, deliveries


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Of one organisation, or of all.

    `waiting`: for their moment, their turn or their next attempt; `active`: under way;
    `done` and `folded` (into a digest), ever; `failed`: attempts that failed, ever; `dead`: in the dead list now.
    """

    waiting: int = 0
    active: int = 0
    done: int = 0
    failed: int = 0
    dead: int = 0
    folded: int = 0
    cancelled: int = 0


def by_channel(connection: sa.Connection, organisation: str | None = None) -> dict[str, Figures]:
    """Channel -> figures, of the organisation's deliveries, or of everybody's."""
    c = counts.c
    query = sa.select(c.channel, c.what, sa.func.sum(c.n)).group_by(c.channel, c.what)
    if organisation is not None:
        query = query.where(c.organisation == organisation)
    found: dict[str, dict[str, int]] = {}
    for channel, what, n in connection.execute(query):
        found.setdefault(channel, {})[what.lower()] = int(n)
    return {channel: Figures(**told) for channel, told in sorted(found.items())}


def figures(connection: sa.Connection, organisation: str | None = None) -> Figures:
    """Of all channels together."""
    names = Figures.__struct_fields__
    channels = by_channel(connection, organisation).values()
    return Figures(**{name: sum(getattr(one, name) for one in channels) for name in names})


def oldest(connection: sa.Connection) -> int | None:
    """When the oldest of all that wait was planned, ms since 1970."""
    return connection.execute(sa.select(sa.func.min(deliveries.c.created_at)).where(IS_WAITING)).scalar()
