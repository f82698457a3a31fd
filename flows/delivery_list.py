"""Deliveries as people look at them: listed, tried again, given up. In the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import sqlalchemy as sa

from flows import database
from flows.delivery_state import State
from flows.delivery_tables import IS_DEAD, IS_WAITING, Tally, attempts, count, deliveries, nudge

MANY = 500  # ids a query


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery. Times are ms since 1970; `due_at`: of what waits, when it is tried (again)."""

    seq: int
    id: str
    organisation: str
    channel: str
    target: str
    alert_id: str | None
    into_id: str | None
    state: State
    attempts: int
    due_at: int
    last_error: str | None
    created_at: int
    done_at: int | None


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One try: when it began (ms since 1970), how long it took, and what was answered or went wrong."""

    seq: int
    delivery_id: str
    attempt: int
    at: int
    took_ms: int
    result: str
    said: str


class Which(msgspec.Struct, frozen=True, kw_only=True):
    """Which deliveries; None = any."""

    organisation: str | None = None
    state: State | None = None
    channel: str | None = None
    target: str | None = None
    alert: str | None = None
    id: str | None = None


def listed(connection: sa.Connection, which: Which, limit: int, before: int | None = None) -> list[Listed]:
    """The latest planned first, at most `limit`, of those with a lower number than `before`."""
    d = deliveries.c
    bound = () if before is None else (d.seq < before,)
    query = sa.select(*(d[name] for name in Listed.__struct_fields__)).where(*_tests(which), *bound)
    return [Listed(**row) for row in connection.execute(query.order_by(d.seq.desc()).limit(limit)).mappings()]


def tried(connection: sa.Connection, which: Which, limit: int, before: int | None = None) -> list[Attempt]:
    """Attempts of one delivery (`id`), or to one target; latest first, at most `limit`, numbered below `before`."""
    a = attempts.c
    known = {"delivery_id": which.id, "organisation": which.organisation, "channel": which.channel}
    tests = [a[name] == value for name, value in (known | {"target": which.target}).items() if value is not None]
    bound = () if before is None else (a.seq < before,)
    query = sa.select(*(a[name] for name in Attempt.__struct_fields__)).where(*tests, *bound)
    return [Attempt(**row) for row in connection.execute(query.order_by(a.seq.desc()).limit(limit)).mappings()]


def retry(connection: sa.Connection, which: Which, ids: Sequence[str], now: int) -> list[str]:
    """Those of them that are dead, or wait, are due now, with all their tries before them. Returns their ids."""
    database.one_by_one(connection)
    found: list[str] = []
    for i in range(0, len(ids), MANY):
        some = deliveries.c.id.in_(ids[i : i + MANY])
        found += _revive(connection, [some, deliveries.c.state.in_(("DEAD", "WAITING")), *_tests(which)], now)
    return found


def retry_dead(connection: sa.Connection, which: Which, now: int) -> list[str]:
    """The same of all that are dead, at most MANY of them."""
    database.one_by_one(connection)
    return _revive(connection, [IS_DEAD, *_tests(which)], now)


def cancel(connection: sa.Connection, which: Which, why: str, now: int, state: State = "CANCELLED") -> int:
    """All that wait for a target end; how many did."""
    database.one_by_one(connection)
    tests = [IS_WAITING, *_tests(which)]
    whose = deliveries.c.organisation, deliveries.c.channel
    tally, ended = Tally(), 0
    for organisation, channel, n in connection.execute(
        sa.select(*whose, sa.func.count()).where(*tests).group_by(*whose)
    ):
        tally[organisation, channel, "WAITING"] -= n
        tally[organisation, channel, state] += n
        ended += n
    connection.execute(deliveries.update().where(*tests).values(state=state, done_at=now, last_error=why))
    count(connection, tally)
    return ended


def _revive(connection: sa.Connection, tests: Sequence[sa.ColumnElement[bool] | sa.TextClause], now: int) -> list[str]:
    d, tally = deliveries.c, Tally()
    query = sa.select(d.id, d.organisation, d.channel, d.target, d.state).where(*tests).order_by(d.seq).limit(MANY)
    found = connection.execute(query).all()
    for row in found:
        tally[row.organisation, row.channel, row.state] -= 1
        tally[row.organisation, row.channel, "WAITING"] += 1
    again = {"state": "WAITING", "attempts": 0, "due_at": now, "done_at": None}
    life = d.expires_at - d.created_at
    if found:
        ids = d.id.in_([row.id for row in found])
        connection.execute(deliveries.update().where(ids).values(expires_at=now + life, **again))
        count(connection, tally)
    for channel, target in dict.fromkeys((row.channel, row.target) for row in found):
        nudge(connection, channel, target)
    return [row.id for row in found]


def _tests(which: Which) -> list[sa.ColumnElement[bool] | sa.TextClause]:
    d = deliveries.c
    named = {d.organisation: which.organisation, d.channel: which.channel, d.target: which.target}
    named |= {d.alert_id: which.alert, d.id: which.id}
    tests: list[sa.ColumnElement[bool] | sa.TextClause] = [
        c == value for c, value in named.items() if value is not None
    ]
    if which.alert is not None:
        tests.append(sa.text("alert_id IS NOT NULL"))  # so that SQLite sees that its index will do
    if which.state is not None:
        tests.append(IS_DEAD if which.state == "DEAD" else d.state == which.state)
    return tests
