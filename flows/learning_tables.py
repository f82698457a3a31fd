"""What the learner keeps in SQL, beside what it learns from. Times are ms since 1970."""

from __future__ import annotations

import sqlalchemy as sa

from flows.database import metadata

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

state = sa.Table(  # one row; whoever has the latest `generation` may write, one `batch` after another
    "learning_state",
    metadata,
    sa.Column("id", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("generation", sa.BigInteger, nullable=False),
    sa.Column("batch", sa.BigInteger, nullable=False),
    sa.Column("positions", sa.Text, nullable=False),  # JSON: up to where each source was read
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("alive_at", sa.BigInteger, nullable=False),  # by the wall
)
examples = sa.Table(  # scores that were told, until their label is known and after; an alert's features are in `alerts`
    "learning_examples",
    metadata,
    sa.Column("n", _NUMBER, primary_key=True, autoincrement=True),
    sa.Column("id", sa.String(256), nullable=False, unique=True),
    sa.Column("organisation", sa.Text, nullable=False),
    sa.Column("user", sa.Text, nullable=False),
    sa.Column("model", sa.String(128), nullable=False),
    sa.Column("version", sa.String(64), nullable=False),
    sa.Column("source", sa.String(16), nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("until", sa.BigInteger, nullable=False),  # the end of the horizon
    sa.Column("due", sa.BigInteger),  # when nothing that came about is learned; NULL: it has a label, or never
    sa.Column("withheld", sa.Boolean, nullable=False),
    sa.Column("label", sa.SmallInteger),
    sa.Column("why", sa.String(16)),  # told, status, event, horizon
    sa.Column("revision", sa.Integer, nullable=False),  # -1: no label yet
    sa.Column("predicted", sa.Text, nullable=False),  # JSON: learner -> what it said when the score was first seen
    sa.Column("body", sa.LargeBinary),  # MessagePack, see learning_rows.py; NULL for an alert
    sa.Index("learning_examples_by_person", "organisation", "user", "model"),
    sa.Index("learning_examples_by_due", "due"),
    sa.Index("learning_examples_by_group", "organisation", "source", "model", "withheld", "label"),
    sqlite_autoincrement=True,
)
journal = sa.Table(  # what was learned, in its order: learners are what this makes of them
    "learning_journal",
    metadata,
    sa.Column("seq", _NUMBER, primary_key=True, autoincrement=True),
    sa.Column("example", sa.String(256), nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("label", sa.SmallInteger, nullable=False),
    sa.Column("was", sa.SmallInteger),
    sa.Column("label_at", sa.BigInteger, nullable=False),
    sa.Column("why", sa.String(16), nullable=False),
    sa.UniqueConstraint("example", "revision"),
    sa.Index("learning_journal_by_revision", "revision"),
    sqlite_autoincrement=True,
)
learners = sa.Table(  # each one's state as of a line of the journal
    "learning_learners",
    metadata,
    sa.Column("kind", sa.String(64), primary_key=True),
    sa.Column("model", sa.String(128), primary_key=True),
    sa.Column("version", sa.String(64), primary_key=True),
    sa.Column("organisation", sa.String(256), primary_key=True),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("state", sa.LargeBinary, nullable=False),
    sa.Column("report", sa.Text, nullable=False),  # JSON, for people
)
inputs = sa.Table(  # of each version that was met: it may be gone when its outcomes come
    "learning_inputs",
    metadata,
    sa.Column("model", sa.String(128), primary_key=True),
    sa.Column("version", sa.String(64), primary_key=True),
    sa.Column("names", sa.Text, nullable=False),
    sa.Column("horizon_days", sa.Integer, nullable=False),
)
aside = sa.Table(  # what was not learned, by reason
    "learning_aside",
    metadata,
    sa.Column("reason", sa.String(32), primary_key=True),
    sa.Column("source", sa.String(32), primary_key=True),
    sa.Column("count", sa.BigInteger, nullable=False),
    sa.Column("last_id", sa.Text, nullable=False),
    sa.Column("last_at", sa.BigInteger, nullable=False),
)
waiting = sa.Table(  # outcomes of predictions that the lake does not have yet
    "learning_waiting",
    metadata,
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("since", sa.BigInteger, nullable=False),  # by the wall
    sa.Column("told", sa.LargeBinary, nullable=False),
)
