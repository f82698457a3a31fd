"""Which alerts somebody has read. A reader is a name; how far they have read all is one number, the rest exceptions."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import sqlalchemy as sa

from flows import database
from flows.alert_store import alerts

MOST_COUNTED = 10_000  # unread alerts are counted so far, so that it takes no longer for who never reads

marks = sa.Table(  # what differs from `upto`
    "alert_reads",
    database.metadata,
    sa.Column("organisation", sa.Text, primary_key=True),
    sa.Column("reader", sa.Text, primary_key=True),
    sa.Column("seq", sa.BigInteger, primary_key=True),
    sa.Column("alert_id", sa.String(64), nullable=False),
    sa.Column("read", sa.Boolean, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
)
upto = sa.Table(
    "alert_read_upto",
    database.metadata,
    sa.Column("organisation", sa.Text, primary_key=True),
    sa.Column("reader", sa.Text, primary_key=True),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
)


class Reader(msgspec.Struct, frozen=True):
    """Somebody of an organisation."""

    organisation: str
    name: str


def mark(connection: sa.Connection, who: Reader, ids: Sequence[str], at: int, *, read: bool) -> list[str]:
    """Those of the alerts that are the organisation's are read (or not) from now on. Returns their ids."""
    database.one_by_one(connection)
    mine = alerts.c.organisation == who.organisation, alerts.c.withheld.is_(False)
    query = sa.select(alerts.c.id, alerts.c.seq).where(alerts.c.id.in_(ids), *mine)
    found = connection.execute(query).all()
    rows = [
        {"organisation": who.organisation, "reader": who.name, "seq": seq, "alert_id": id_, "read": read, "at": at}
        for id_, seq in found
    ]
    if rows:
        insert = database.insert(connection, marks)
        told = {"read": insert.excluded.read, "at": insert.excluded.at}
        key = ["organisation", "reader", "seq"]
        connection.execute(insert.on_conflict_do_update(index_elements=key, set_=told), rows)
    return [id_ for id_, _ in found]


def mark_all(connection: sa.Connection, who: Reader, at: int) -> None:
    """All that there is by now is read."""
    database.one_by_one(connection)
    head = connection.execute(sa.select(sa.func.max(alerts.c.seq))).scalar() or 0
    row = {"organisation": who.organisation, "reader": who.name, "seq": head, "at": at}
    insert = database.insert(connection, upto)
    told = {"seq": insert.excluded.seq, "at": insert.excluded.at}
    connection.execute(insert.on_conflict_do_update(index_elements=["organisation", "reader"], set_=told), row)
    connection.execute(marks.delete().where(*_whose(marks, who), marks.c.seq <= head))


def read_of(connection: sa.Connection, who: Reader, seqs: Sequence[int]) -> set[int]:
    """The numbers of those alerts that they have read; at most a few hundred."""
    told = sa.select(marks.c.seq, marks.c.read).where(*_whose(marks, who), marks.c.seq.in_(seqs))
    known = {row.seq: row.read for row in connection.execute(told)}
    reached = _reached(connection, who)
    return {seq for seq in seqs if known.get(seq, seq <= reached)}


def unread(connection: sa.Connection, who: Reader) -> int:
    """How many they have not read, up to MOST_COUNTED."""
    reached = _reached(connection, who)
    mine = alerts.c.organisation == who.organisation, alerts.c.withheld.is_(False), alerts.c.seq > reached
    there = marks.c.seq == alerts.c.seq, *_whose(marks, who), marks.c.read.is_(True)
    new = sa.select(alerts.c.seq).where(*mine, ~sa.exists().where(*there)).limit(MOST_COUNTED)
    old = sa.select(sa.func.count()).where(*_whose(marks, who), marks.c.seq <= reached, marks.c.read.is_(False))
    found = connection.execute(sa.select(sa.func.count()).select_from(new.subquery())).scalar() or 0
    return min(found + (connection.execute(old).scalar() or 0), MOST_COUNTED)


def _reached(connection: sa.Connection, who: Reader) -> int:
    return connection.execute(sa.select(upto.c.seq).where(*_whose(upto, who))).scalar() or 0


def _whose(table: sa.Table, who: Reader) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    return table.c.organisation == who.organisation, table.c.reader == who.name
