"""Deliveries in SQL beside the alerts: what is to be sent, what was tried, how many there are, and who sends."""

from __future__ import annotations

from collections import Counter
from typing import Any

import sqlalchemy as sa

from flows import database
from flows.database import metadata

FAILED = "FAILED"  # counted beside the states: attempts that failed

bodies = sa.Table(  # once, however many targets are sent the same
    "delivery_bodies",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("body", sa.LargeBinary, nullable=False),
)
deliveries = sa.Table(
    "deliveries",
    metadata,
    database.number(),
    sa.Column("id", sa.String(64), nullable=False, unique=True),
    sa.Column("organisation", sa.Text, nullable=False),
    sa.Column("channel", sa.String(32), nullable=False),
    sa.Column("target", sa.Text, nullable=False),
    sa.Column("alert_id", sa.String(64)),  # null: a digest, or a test
    sa.Column("into_id", sa.String(64)),  # of FOLDED: the digest's id
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False),  # how often it is tried; 0: as the channel has it
    sa.Column("due_at", sa.BigInteger, nullable=False),
    sa.Column("expires_at", sa.BigInteger, nullable=False),  # held back beyond it, it is dead
    sa.Column("body_id", sa.String(32)),  # null while it waits: still to be made
    sa.Column("last_error", sa.Text),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("done_at", sa.BigInteger),  # when it ended, well or not
    sa.Column("through_quiet", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("day", sa.Integer),  # of the recipient's days, which counts it; null: none does
    sa.Index("deliveries_by_organisation", "organisation", "seq"),
    sa.Index("deliveries_by_state", "organisation", "state", "seq"),
    sa.Index("deliveries_by_target", "organisation", "channel", "target", "seq"),
    sa.Index("deliveries_by_body", "body_id"),
    sqlite_autoincrement=True,
)
# Spelled out, since SQLite uses a partial index only where it can read that the query keeps to it.
IS_WAITING = sa.text("state = 'WAITING'")
IS_ACTIVE = sa.text("state = 'ACTIVE'")
IS_DEAD = sa.text("state = 'DEAD'")
IS_OVER = sa.text("done_at IS NOT NULL")


def _some(name: str, where: sa.TextClause, *columns: sa.Column[Any]) -> None:
    """An index over few of many rows."""
    sa.Index(name, *columns, sqlite_where=where, postgresql_where=where)


_some("deliveries_waiting", IS_WAITING, deliveries.c.channel, deliveries.c.target, deliveries.c.due_at)
_some("deliveries_expiring", IS_WAITING, deliveries.c.expires_at)
_some("deliveries_oldest", IS_WAITING, deliveries.c.created_at)
_some("deliveries_active", IS_ACTIVE, deliveries.c.channel, deliveries.c.organisation)
_some("deliveries_dead", IS_DEAD, deliveries.c.seq)
_some("deliveries_over", IS_OVER, deliveries.c.done_at)
_some("deliveries_of_alert", sa.text("alert_id IS NOT NULL"), deliveries.c.alert_id)
_some("deliveries_folded", sa.text("into_id IS NOT NULL"), deliveries.c.into_id)

attempts = sa.Table(
    "delivery_attempts",
    metadata,
    database.number(),
    sa.Column("delivery_id", sa.String(64), nullable=False),
    sa.Column("organisation", sa.Text, nullable=False),
    sa.Column("channel", sa.String(32), nullable=False),
    sa.Column("target", sa.Text, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("took_ms", sa.Integer, nullable=False),
    sa.Column("result", sa.String(8), nullable=False),  # SENT, RETRY, DEAD, GONE
    sa.Column("said", sa.Text, nullable=False),
    sa.Index("delivery_attempts_of", "delivery_id", "seq"),
    sa.Index("delivery_attempts_by_target", "organisation", "channel", "target", "seq"),
    sqlite_autoincrement=True,
)
counts = sa.Table(  # kept with each change, since counting millions of rows takes long
    "delivery_counts",
    metadata,
    sa.Column("organisation", sa.Text, primary_key=True),
    sa.Column("channel", sa.String(32), primary_key=True),
    sa.Column("what", sa.String(16), primary_key=True),  # a state, or FAILED
    sa.Column("n", sa.BigInteger, nullable=False),
)
nudges = sa.Table(  # "look at this target again": written by whoever changes something for the process that sends
    "delivery_nudges",
    metadata,
    database.number(),
    sa.Column("channel", sa.String(32), nullable=False),
    sa.Column("target", sa.Text, nullable=False),
    sqlite_autoincrement=True,
)
sender = sa.Table(  # one row: who sends, and up to which alert all is planned
    "delivery_sender",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("generation", sa.BigInteger, nullable=False),
    sa.Column("until", sa.BigInteger, nullable=False),
    sa.Column("routed", sa.BigInteger, nullable=False),  # `seq` of an alert
)

Tally = Counter[tuple[str, str, str]]  # (organisation, channel, state or FAILED) -> by how much it changes


def count(connection: sa.Connection, tally: Tally) -> None:
    """Adds to the counts, in the transaction that made them change."""
    rows = [
        {"organisation": organisation, "channel": channel, "what": what, "n": n}
        for (organisation, channel, what), n in sorted(tally.items())
        if n
    ]
    if rows:
        insert = database.insert(connection, counts)
        added = {"n": counts.c.n + insert.excluded.n}
        connection.execute(
            insert.on_conflict_do_update(index_elements=["organisation", "channel", "what"], set_=added), rows
        )


def nudge(connection: sa.Connection, channel: str, target: str) -> None:
    """Has the process that sends look at a target again, its breaker closed."""
    connection.execute(nudges.insert(), {"channel": channel, "target": target})
