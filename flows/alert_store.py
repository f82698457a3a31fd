"""Alerts in SQL: SQLite beside the data, or PostgreSQL. One table, one writer, any number of readers."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from feature_repo.settings import Settings
from flows.alert import Alert, Priority

WRITERS = 7_454_001  # PostgreSQL's advisory lock: writers commit one after another, so `seq` grows as they commit
LOCK_PATIENCE = 0.5  # seconds that SQLite waits for another writer
JSON_COLUMNS = ("signals", "features", "reasons")
EXACT = ("organisation", "type", "priority", "user")  # filters that are equalities

metadata = sa.MetaData()
alerts = sa.Table(
    "alerts",
    metadata,
    sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=True),
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
    sa.Index("alerts_by_organisation", "organisation", "seq"),
    # In the order of the list; what stands after `seq` is tested without fetching the row.
    sa.Index("alerts_by_time", "organisation", "scored_at", "seq", "score"),
    sa.Index("alerts_by_type", "organisation", "type", "scored_at", "seq", "priority", "score"),
    sa.Index("alerts_by_priority", "organisation", "priority", "scored_at", "seq", "score"),
    sa.Index("alerts_by_user", "organisation", "user", "scored_at", "seq"),
    sqlite_autoincrement=True,  # a number is never given twice, so a stream resumes without a mix-up
)


Place = tuple[int, int]  # in the list: `scored_at`, `seq`


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which alerts; None = any. `since` (included) and `until` (not) are `scored_at`, ms since 1970."""

    organisation: str | None = None
    type: str | None = None
    priority: Priority | None = None
    user: str | None = None
    since: int | None = None
    until: int | None = None
    min_score: float | None = None


class Stored(msgspec.Struct, frozen=True):
    """An alert and its number: `seq` grows in the order in which alerts were stored."""

    seq: int
    alert: Alert

    @property
    def place(self) -> Place:
        return self.alert.scored_at, self.seq


class AlertStore:
    """The table behind one engine. `OperationalError` of SQLAlchemy means that the database is not there now."""

    def __init__(self, url: str) -> None:
        self.engine = _engine(url)

    def create(self) -> None:
        """Makes the table where there is none; several processes may do so at once."""
        with _alone(self.engine.url), self.engine.begin() as connection:
            self._one_by_one(connection)
            metadata.create_all(connection)

    def insert(self, new: Sequence[Alert]) -> int:
        """Stores those whose id is not there yet, all or none; returns the highest `seq` then in the table."""
        with self.engine.begin() as connection:
            self._one_by_one(connection)
            if new:
                connection.execute(_insert(self.engine.dialect.name), [_row(alert) for alert in new])
            return _head(connection)

    def head(self) -> int:
        """The highest `seq`; 0 while there is none."""
        with self.engine.connect() as connection:
            return _head(connection)

    def find(self, alert: str, organisation: str | None = None) -> Alert | None:
        """The alert of that id, if it is the organisation's."""
        query = sa.select(alerts).where(alerts.c.id == alert, *_where(Filter(organisation=organisation)))
        with self.engine.connect() as connection:
            row = connection.execute(query).mappings().first()
        return _stored(row).alert if row else None

    def newest(self, only: Filter, limit: int, before: Place | None = None) -> list[Stored]:
        """By `scored_at`, latest first, at most `limit`, of those that come after the place `before`."""
        place = sa.tuple_(alerts.c.scored_at, alerts.c.seq)
        bound = () if before is None else (place < before,)
        latest_first = alerts.c.scored_at.desc(), alerts.c.seq.desc()
        return self._fetch(sa.select(alerts).where(*_where(only), *bound).order_by(*latest_first).limit(limit))

    def after(self, only: Filter, seq: int, limit: int) -> list[Stored]:
        """Oldest first, at most `limit`, of those with a higher `seq`."""
        query = sa.select(alerts).where(*_where(only), alerts.c.seq > seq).order_by(alerts.c.seq).limit(limit)
        return self._fetch(query)

    def opened(self) -> list[tuple[str, str, str, int]]:
        """(organisation, user, type, `scored_at` of the latest alert) of everybody who had one."""
        whose = alerts.c.organisation, alerts.c.user, alerts.c.type
        with self.engine.connect() as connection:
            found = connection.execute(sa.select(*whose, sa.func.max(alerts.c.scored_at)).group_by(*whose))
            return [(organisation, user, kind, int(ms)) for organisation, user, kind, ms in found]

    def close(self) -> None:
        self.engine.dispose()

    def _one_by_one(self, connection: sa.Connection) -> None:
        if self.engine.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(WRITERS)))

    def _fetch(self, query: sa.Select[Any]) -> list[Stored]:
        with self.engine.connect() as connection:
            return [_stored(row) for row in connection.execute(query).mappings()]


def open_alerts(settings: Settings) -> AlertStore:
    """The alert store of these settings, its table made if need be."""
    url = sa.make_url(settings.database)
    if url.get_backend_name() == "sqlite" and url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    store = AlertStore(settings.database)
    store.create()
    return store


def _engine(url: str) -> sa.Engine:
    if not url.startswith("sqlite"):
        return sa.create_engine(url, pool_pre_ping=True)
    engine = sa.create_engine(url, connect_args={"timeout": LOCK_PATIENCE, "check_same_thread": False})
    sa.event.listen(engine, "connect", _durable)
    return engine


@contextmanager
def _alone(url: sa.URL) -> Iterator[None]:
    """Holds SQLite's directory: switching a new file to WAL does not wait for others that do so, it fails."""
    place = Path(url.database or "").parent
    if url.get_backend_name() != "sqlite" or not place.is_dir():
        yield
        return
    handle = os.open(place, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _durable(connection: Any, _: Any) -> None:
    """Readers never wait for the writer, and a commit is on disk when it returns."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")


def _insert(dialect: str) -> sa.Insert:
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    return insert(alerts).on_conflict_do_nothing(index_elements=["id"])


def _head(connection: sa.Connection) -> int:
    return connection.execute(sa.select(sa.func.max(alerts.c.seq))).scalar() or 0


def _row(alert: Alert) -> dict[str, Any]:
    values = msgspec.structs.asdict(alert)
    return values | {name: msgspec.json.encode(values[name]).decode() for name in JSON_COLUMNS}


def _stored(row: sa.RowMapping) -> Stored:
    values = {name: row[name] for name in Alert.__struct_fields__}
    values |= {name: msgspec.json.decode(values[name]) for name in JSON_COLUMNS}
    return Stored(row["seq"], msgspec.convert(values, Alert))


def _where(only: Filter) -> list[sa.ColumnElement[bool]]:
    given = msgspec.structs.asdict(only)
    tests = [alerts.c[name] == given[name] for name in EXACT if given[name] is not None]
    if only.since is not None:
        tests.append(alerts.c.scored_at >= only.since)
    if only.until is not None:
        tests.append(alerts.c.scored_at < only.until)
    if only.min_score is not None:
        tests.append(alerts.c.score >= only.min_score)
    return tests


def matches(only: Filter, alert: Alert) -> bool:
    """Whether the filter keeps the alert, as the queries do."""
    given = msgspec.structs.asdict(only)
    same = all(given[name] in (None, getattr(alert, name)) for name in EXACT)
    in_time = (only.since or 0) <= alert.scored_at and (only.until is None or alert.scored_at < only.until)
    return same and in_time and alert.score >= (only.min_score or 0.0)
