"""Where an alert stands, and every step that it took: who, when, from where, to where, why."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, get_args

import msgspec
import sqlalchemy as sa

from flows import alert_tally, database
from flows.alert import Priority, Status
from flows.alert_store import Filter, alerts, where
from flows.alert_tally import Facts

STEPS: dict[Status, tuple[Status, ...]] = {  # from -> to; there are no others
    "PENDING": ("DELIVERED", "EXPIRED"),
    "DELIVERED": ("ACKNOWLEDGED", "DISMISSED", "EXPIRED"),
    "ACKNOWLEDGED": ("CONVERTED", "DISMISSED", "EXPIRED"),
    "CONVERTED": (),
    "DISMISSED": (),
    "EXPIRED": (),
}
STATUSES: tuple[Status, ...] = get_args(Status)
MOST_WHO = 200  # characters
MANY = 500  # ids a query: databases bound them

changes = sa.Table(
    "alert_changes",
    database.metadata,
    database.number(),
    sa.Column("alert_id", sa.String(64), nullable=False),
    sa.Column("organisation", sa.Text, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("from_status", sa.String(16), nullable=False),
    sa.Column("to_status", sa.String(16), nullable=False),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("why", sa.Text),
    sa.Index("alert_changes_of", "alert_id", "seq"),
    sa.Index("alert_changes_by_organisation", "organisation", "seq"),
    sqlite_autoincrement=True,
)

_ABOUT = tuple(alerts.c[name] for name in ("user", "type", "priority", "score", "scored_at", "withheld"))
_TOLD = sa.select(changes, *_ABOUT).select_from(changes.join(alerts, alerts.c.id == changes.c.alert_id))


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step of an alert, and what is known of the alert, so that a filter can tell whether the step is wanted.

    `seq` grows in the order of the commits; times are ms since 1970.
    """

    seq: int
    alert_id: str
    organisation: str
    at: int
    from_status: Status
    to_status: Status
    who: str
    why: str | None
    user: str
    type: str
    priority: Priority
    score: float
    scored_at: int
    withheld: bool

    @property
    def status(self) -> Status:
        return self.to_status


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one move: `status` is where the alert stands now (None: there is no such alert).

    `done`: it stands where it was to go; `new`: by this very move. `may`: where it may go from here.
    """

    id: str
    status: Status | None
    status_at: int
    done: bool
    new: bool
    may: tuple[Status, ...]


def move(
    connection: sa.Connection,
    ids: Sequence[str],
    to: Status,
    *,
    who: str,
    at: int,
    why: str | None = None,
    organisation: str | None = None,
) -> list[Moved]:
    """Takes the allowed step to `to` for each of the alerts, in this transaction; in the order of `ids`.

    One that stands there already, that may not go there, or that is not the organisation's is left as it is, and a
    withheld one goes nowhere but to EXPIRED. `at`: ms since 1970, by the log's time where the store has that.
    Ask before anything else of the transaction is read: other writers wait from here on until it ends.
    """
    database.one_by_one(connection)
    step = partial(_move, connection, to=to, who=who, at=at, why=why, organisation=organisation)
    return [moved for start in range(0, len(ids), MANY) for moved in step(ids[start : start + MANY])]


def _move(
    connection: sa.Connection,
    ids: Sequence[str],
    to: Status,
    *,
    who: str,
    at: int,
    why: str | None,
    organisation: str | None,
) -> list[Moved]:
    mine = alert_tally.facts(connection, ids)
    found = {id_: one for id_, one in mine.items() if organisation in (None, one.organisation)}
    going = {id_: found[id_] for id_ in ids if id_ in found and to in allowed(found[id_])}
    if going:
        _take(connection, going, to, who=who[:MOST_WHO], at=at, why=why)
    return [_moved(id_, found.get(id_), to, at, new=id_ in going) for id_ in ids]


def allowed(one: Facts) -> tuple[Status, ...]:
    """Where an alert may go from where it stands."""
    return tuple(to for to in STEPS[one.status] if not one.withheld or to == "EXPIRED")


def _take(
    connection: sa.Connection, going: dict[str, Facts], to: Status, *, who: str, at: int, why: str | None
) -> None:
    moved = {"status": to, "status_at": at}
    connection.execute(sa.update(alerts).where(alerts.c.id.in_(going)).values(moved))
    step = {"at": at, "to_status": to, "who": who, "why": why}
    told = [
        step | {"alert_id": id_, "organisation": one.organisation, "from_status": one.status}
        for id_, one in going.items()
    ]
    connection.execute(sa.insert(changes), told)
    after = [msgspec.structs.replace(one, status=to, status_at=at) for one in going.values()]
    alert_tally.move(connection, list(going.values()), after)


def _moved(id_: str, one: Facts | None, to: Status, at: int, *, new: bool) -> Moved:
    if one is None:
        return Moved(id=id_, status=None, status_at=0, done=False, new=False, may=())
    now = msgspec.structs.replace(one, status=to, status_at=at) if new else one
    return Moved(id=id_, status=now.status, status_at=now.status_at, done=now.status == to, new=new, may=allowed(now))


def history(connection: sa.Connection, alert: str) -> list[Step]:
    """Every step of an alert, first to last."""
    return _fetch(connection, _TOLD.where(changes.c.alert_id == alert).order_by(changes.c.seq))


def head(connection: sa.Connection) -> int:
    """The number of the latest step of any alert; 0 while there is none."""
    return connection.execute(sa.select(sa.func.max(changes.c.seq))).scalar() or 0


def after(connection: sa.Connection, only: Filter, seq: int, limit: int) -> list[Step]:
    """The steps after number `seq` of alerts that the filter keeps, first to last; its status is the new one."""
    given = msgspec.structs.replace(only, status=None, organisation=None)
    tests = [changes.c.seq > seq, *where(given)]
    if only.organisation is not None:
        tests.append(changes.c.organisation == only.organisation)
    if only.status is not None:
        tests.append(changes.c.to_status == only.status)
    return _fetch(connection, _TOLD.where(*tests).order_by(changes.c.seq).limit(limit))


def _fetch(connection: sa.Connection, query: sa.Select[Any]) -> list[Step]:
    return [Step(**row) for row in connection.execute(query).mappings()]


def due(connection: sa.Connection, before: int, limit: int) -> list[str]:
    """Ids of alerts scored before then (ms) that came to nothing yet, oldest first, at most `limit` of each status."""
    found: list[str] = []
    for status in (status for status, to in STEPS.items() if "EXPIRED" in to):
        query = sa.select(alerts.c.id).where(alerts.c.status == status, alerts.c.scored_at < before)
        found += connection.execute(query.order_by(alerts.c.scored_at).limit(limit)).scalars()
    return found
