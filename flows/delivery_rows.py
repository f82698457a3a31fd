"""Rows of `deliveries`, as the sending process adds, takes and ends them. All in the caller's transaction."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from flows import database
from flows.channel import NewDelivery, Parcel
from flows.delivery_tables import IS_ACTIVE, IS_WAITING, Tally, bodies, count, deliveries, nudge
from flows.lanes import Draft, Key

LOST = "no such target, or it is disabled"


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery that was taken. `body` is None while it is still to be made."""

    id: str
    organisation: str
    channel: str
    target: str
    alert: str | None
    body: bytes | None
    attempts: int
    tries: int
    created_at: int

    def parcel(self, told: tuple[str, ...]) -> Parcel:
        return Parcel(
            id=self.id,
            organisation=self.organisation,
            channel=self.channel,
            target=self.target,
            alerts=tuple(id_ for id_ in told if id_),
            body=self.body or b"",
            attempt=self.attempts + 1,
            created_at=self.created_at,
        )


def add(
    connection: sa.Connection,
    planned: Sequence[NewDelivery],
    draft: Draft,
    life: Callable[[str], int],
    tally: Tally,
) -> list[Due]:
    """Adds those that are not there yet. Returns what is due at once and was taken, since its lane has room."""
    new = _unknown(connection, planned)
    if not new:
        return []
    written = {_digest(one.body): one.body for one in new if one.body is not None and not (one.done or one.into)}
    if written:
        once = database.insert(connection, bodies).on_conflict_do_nothing(index_elements=["id"])
        connection.execute(once, [{"id": id_, "body": body} for id_, body in written.items()])
    states = [_state(one, draft) for one in new]
    made = [_row(one, state, draft.now, life(one.channel)) for one, state in zip(new, states, strict=True)]
    connection.execute(deliveries.insert(), made)
    for one, state in zip(new, states, strict=True):
        tally[one.organisation, one.channel, state] += 1
    return [_due(one, draft.now) for one, state in zip(new, states, strict=True) if state == "ACTIVE"]


def put(connection: sa.Connection, one: NewDelivery, now: int, life: int = 0) -> None:
    """One more that waits, from outside of the process that sends. `life`: ms for which it may be held back."""
    tally = Tally({(one.organisation, one.channel, "WAITING"): 1})
    if one.body is not None:
        once = database.insert(connection, bodies).on_conflict_do_nothing(index_elements=["id"])
        connection.execute(once, {"id": _digest(one.body), "body": one.body})
    connection.execute(deliveries.insert(), _row(one, "WAITING", now, life))
    count(connection, tally)
    nudge(connection, one.channel, one.target)


def _unknown(connection: sa.Connection, planned: Sequence[NewDelivery]) -> list[NewDelivery]:
    new = {one.id: one for one in planned}
    known: set[str] = set()
    ids = list(new)
    for i in range(0, len(ids), 500):
        found = sa.select(deliveries.c.id).where(deliveries.c.id.in_(ids[i : i + 500]))
        known |= set(connection.execute(found).scalars())
    return [one for id_, one in new.items() if id_ not in known]


def _state(one: NewDelivery, draft: Draft) -> str:
    """Notes in the draft what it makes of its lane."""
    if one.done or one.dead:
        return "DEAD" if one.dead else "DONE"
    if one.into:
        return "FOLDED"
    key, backlog = (one.channel, one.target), draft.due((one.channel, one.target))
    at_once = one.body is not None and one.due_at <= draft.now and (backlog is None or backlog > draft.now)
    if at_once and draft.room(key):
        draft.take(key)
        return "ACTIVE"
    draft.waits(key, max(one.due_at, draft.now))
    return "WAITING"


def _row(one: NewDelivery, state: str, now: int, life: int) -> dict[str, Any]:
    due = max(one.due_at, now)
    return {
        "id": one.id,
        "organisation": one.organisation,
        "channel": one.channel,
        "target": one.target,
        "alert_id": one.alert or None,
        "into_id": one.into or None,
        "state": state,
        "attempts": 0,
        "tries": one.tries,
        "due_at": due,
        "expires_at": due + life,
        "body_id": None if one.body is None or one.done or one.into else _digest(one.body),
        "created_at": now,
        "last_error": one.dead or None,
        "done_at": now if one.done or one.dead else None,
        "through_quiet": one.through_quiet,
        "day": one.day,
    }


def _due(one: NewDelivery, now: int) -> Due:
    return Due(
        id=one.id,
        organisation=one.organisation,
        channel=one.channel,
        target=one.target,
        alert=one.alert,
        body=one.body,
        attempts=0,
        tries=one.tries,
        created_at=now,
    )


def _digest(body: bytes) -> str:
    return hashlib.blake2b(body, digest_size=16).hexdigest()


def take(connection: sa.Connection, key: Key, room: int, draft: Draft, tally: Tally) -> list[Due]:
    """What is due in a lane, the longest due first, at most `room`; it is under way from here on."""
    d = deliveries.c
    columns = (d.id, d.organisation, d.channel, d.target, d.alert_id.label("alert"), bodies.c.body)
    query = (
        sa.select(*columns, d.attempts, d.tries, d.created_at, d.due_at)
        .select_from(deliveries.outerjoin(bodies, bodies.c.id == d.body_id))
        .where(IS_WAITING, d.channel == key[0], d.target == key[1])
        .order_by(d.due_at)
        .limit(room + 1)
    )
    found = [dict(row) for row in connection.execute(query).mappings()]
    due = [(row.pop("due_at"), row) for row in found]
    taken = [Due(**row) for at, row in due[:room] if at <= draft.now]
    draft.looked(key, due[len(taken)][0] if len(due) > len(taken) else None)
    if taken:
        connection.execute(deliveries.update().where(d.id.in_([one.id for one in taken])).values(state="ACTIVE"))
    for one in taken:
        draft.take(key)
        tally[one.organisation, one.channel, "WAITING"] -= 1
        tally[one.organisation, one.channel, "ACTIVE"] += 1
    return taken


def folded(connection: sa.Connection, into: str) -> tuple[str, ...]:
    """The alerts of a digest, in the order in which they were folded into it."""
    query = sa.select(deliveries.c.alert_id).where(deliveries.c.into_id == into).order_by(deliveries.c.seq)
    return tuple(dict.fromkeys(connection.execute(query).scalars()))


def freeze(connection: sa.Connection, id_: str, body: bytes) -> None:
    """The body of a delivery that had none: from here on it is this one."""
    once = database.insert(connection, bodies).on_conflict_do_nothing(index_elements=["id"])
    connection.execute(once, {"id": _digest(body), "body": body})
    connection.execute(deliveries.update().where(deliveries.c.id == id_).values(body_id=_digest(body)))


def ended(connection: sa.Connection, changes: Sequence[dict[str, Any]]) -> None:
    """`changes`: `delivery` (the id), and what its row says from here on."""
    connection.execute(deliveries.update().where(deliveries.c.id == sa.bindparam("delivery")), changes)


def lose(connection: sa.Connection, lost: Sequence[Due], why: Mapping[str, str], draft: Draft, tally: Tally) -> None:
    """Taken, but they cannot be sent: dead. `why`: by id."""
    dead = [{"delivery": one.id, "state": "DEAD", "done_at": draft.now, "last_error": why[one.id]} for one in lost]
    if lost:
        ended(connection, dead)
    for one in lost:
        draft.give_back((one.channel, one.target))
        tally[one.organisation, one.channel, "ACTIVE"] -= 1
        tally[one.organisation, one.channel, "DEAD"] += 1


def settle(connection: sa.Connection, settled: Sequence[Due], draft: Draft, tally: Tally) -> None:
    """Taken, and done with nothing being sent."""
    done = [{"delivery": one.id, "state": "DONE", "done_at": draft.now, "last_error": None} for one in settled]
    if settled:
        ended(connection, done)
    for one in settled:
        draft.give_back((one.channel, one.target))
        tally[one.organisation, one.channel, "ACTIVE"] -= 1
        tally[one.organisation, one.channel, "DONE"] += 1


def bury(connection: sa.Connection, key: Key, why: str, now: int, tally: Tally) -> None:
    """All that waits in a lane is dead."""
    mine = (IS_WAITING, deliveries.c.channel == key[0], deliveries.c.target == key[1])
    by = deliveries.c.organisation
    for organisation, n in connection.execute(sa.select(by, sa.func.count()).where(*mine).group_by(by)).all():
        tally[organisation, key[0], "WAITING"] -= n
        tally[organisation, key[0], "DEAD"] += n
    connection.execute(deliveries.update().where(*mine).values(state="DEAD", done_at=now, last_error=why))


def dues(connection: sa.Connection) -> dict[Key, int]:
    """When each lane has something due."""
    lane = deliveries.c.channel, deliveries.c.target
    found = sa.select(*lane, sa.func.min(deliveries.c.due_at)).where(IS_WAITING).group_by(*lane)
    return {(channel, target): due for channel, target, due in connection.execute(found)}


def under_way(connection: sa.Connection, ids: Sequence[str]) -> set[str]:
    """Those of them that are, as the table has it."""
    found: set[str] = set()
    for i in range(0, len(ids), 500):
        some = sa.select(deliveries.c.id).where(IS_ACTIVE, deliveries.c.id.in_(ids[i : i + 500]))
        found |= set(connection.execute(some).scalars())
    return found


def hasten(connection: sa.Connection, now: int) -> None:
    """What an earlier process planned for at once, by a clock that was ahead, is due."""
    d = deliveries.c
    ahead = deliveries.update().where(IS_WAITING, d.created_at > now, d.due_at <= d.created_at)
    connection.execute(ahead.values(due_at=now))


def release(connection: sa.Connection, now: int) -> None:
    """What was under way when its process ended waits, and is due."""
    tally, d = Tally(), deliveries.c
    active = sa.select(d.organisation, d.channel, sa.func.count()).where(IS_ACTIVE).group_by(d.organisation, d.channel)
    for organisation, channel, n in connection.execute(active):
        tally[organisation, channel, "ACTIVE"] -= n
        tally[organisation, channel, "WAITING"] += n
    connection.execute(deliveries.update().where(IS_ACTIVE).values(state="WAITING", due_at=now))
    count(connection, tally)
