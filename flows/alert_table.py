"""The table of alerts. The drain writes a row once; where it stands and what became of it moves afterwards."""

from __future__ import annotations

import sqlalchemy as sa

from flows import database


def _status_at(connection: sa.Connection) -> None:
    """Those stored before there was a status are pending since they were scored."""
    connection.exec_driver_sql("UPDATE alerts SET status_at = scored_at")


alerts = sa.Table(
    "alerts",
    database.metadata,
    database.number(),
    sa.Column("id", sa.String(64), nullable=False, unique=True),
    sa.Column("organisation", sa.Text, nullable=False),
    sa.Column("user", sa.Text, nullable=False),
    sa.Column("type", sa.String(64), nullable=False),
    sa.Column("score", sa.Double, nullable=False),
    sa.Column("raw_score", sa.Double, nullable=False),
    sa.Column("confidence", sa.Double, nullable=False),
    sa.Column("priority", sa.String(16), nullable=False),
    sa.Column("signals", sa.Text, nullable=False),
    sa.Column("model", sa.String(128), nullable=False),
    sa.Column("model_version", sa.String(64), nullable=False),
    sa.Column("features", sa.Text, nullable=False),
    sa.Column("event_at", sa.BigInteger, nullable=False),
    sa.Column("scored_at", sa.BigInteger, nullable=False),
    sa.Column("stored_at", sa.BigInteger, nullable=False),
    sa.Column("reasons", sa.Text, nullable=False),
    sa.Column("status", sa.String(16), nullable=False, server_default="PENDING"),
    sa.Column(
        "status_at",
        sa.BigInteger,
        nullable=False,
        server_default="0",
        info={"fill": _status_at},
    ),
    sa.Column("withheld", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("calibration", sa.Integer, nullable=False, server_default="0"),
    # What was told last of what became of it (`alert_outcomes`), so that statistics need not look there.
    sa.Column("outcome", sa.String(16)),
    sa.Column("converted", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("value", sa.Double),
    sa.Column("converted_at", sa.BigInteger),
    sa.Index("alerts_by_organisation", "organisation", "seq"),
    # In the order of the list; what stands after `seq` is tested without fetching the row.
    sa.Index("alerts_by_time", "organisation", "scored_at", "seq", "score"),
    sa.Index("alerts_by_type", "organisation", "type", "scored_at", "seq", "priority", "score"),
    sa.Index("alerts_by_priority", "organisation", "priority", "scored_at", "seq", "score"),
    sa.Index("alerts_by_user", "organisation", "user", "scored_at", "seq"),
    sa.Index("alerts_by_status", "organisation", "status", "scored_at", "seq", "type", "priority", "score"),
    sa.Index("alerts_by_age", "status", "scored_at"),  # across organisations: what expires
    sqlite_autoincrement=True,  # a number is never given twice, so a stream resumes without a mix-up
)
_withheld = alerts.c.withheld.is_(True)
sa.Index(
    "alerts_withheld",
    alerts.c.organisation,
    alerts.c.withheld,  # the same in all of them: without it SQLite prefers `alerts_by_time`
    alerts.c.scored_at,
    alerts.c.seq,
    sqlite_where=_withheld,
    postgresql_where=_withheld,
)
