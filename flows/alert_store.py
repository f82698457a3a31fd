"""Alerts in SQL: SQLite beside the data, or PostgreSQL. One table, one writer, any number of readers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import msgspec
import sqlalchemy as sa

from feature_repo.settings import Settings
from flows import alert_table, alert_tally, database
from flows.alert import Alert, Priority, Status
from flows.alert_tally import Facts

metadata = database.metadata
JSON_COLUMNS = ("signals", "features", "reasons")
EXACT = ("organisation", "type", "priority", "user", "status")  # filters that are equalities

alerts = alert_table.alerts

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
    status: Status | None = None
    withheld: bool | None = None


class Known(Protocol):
    """What a filter asks of an alert."""

    @property
    def scored_at(self) -> int: ...
    @property
    def score(self) -> float: ...
    @property
    def withheld(self) -> bool: ...


class Stored(msgspec.Struct, frozen=True):
    """An alert and its number: `seq` grows in the order in which alerts were stored."""

    seq: int
    alert: Alert

    @property
    def place(self) -> Place:
        return self.alert.scored_at, self.seq


class AlertStore:
    """The table behind one engine. `OperationalError` of SQLAlchemy means that the database is not there now."""

    def __init__(self, url: str, patience: float = database.LOCK_PATIENCE) -> None:
        self.engine = database.engine(url, patience)

    def create(self) -> None:
        """Makes or brings up the tables; several processes may do so at once."""
        database.create(self.engine)

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction, during which nobody else writes."""
        with self.engine.begin() as connection:
            database.one_by_one(connection)
            yield connection

    def insert(self, new: Sequence[Alert]) -> int:
        """Stores those whose id is not there yet, all or none; returns the highest `seq` then in the table."""
        with self.writing() as connection:
            if fresh := _fresh(connection, new):
                connection.execute(sa.insert(alerts), [_row(alert) for alert in fresh])
                alert_tally.move(connection, [], [_facts(alert) for alert in fresh])
            return _head(connection)

    def head(self) -> int:
        """The highest `seq`; 0 while there is none."""
        with self.engine.connect() as connection:
            return _head(connection)

    def find(self, alert: str, organisation: str | None = None) -> Alert | None:
        """The alert of that id, if it is the organisation's."""
        query = sa.select(alerts).where(alerts.c.id == alert, *where(Filter(organisation=organisation)))
        with self.engine.connect() as connection:
            row = connection.execute(query).mappings().first()
        return stored(row).alert if row else None

    def newest(self, only: Filter, limit: int, before: Place | None = None) -> list[Stored]:
        """By `scored_at`, latest first, at most `limit`, of those that come after the place `before`."""
        place = sa.tuple_(alerts.c.scored_at, alerts.c.seq)
        bound = () if before is None else (place < before,)
        latest_first = alerts.c.scored_at.desc(), alerts.c.seq.desc()
        return self._fetch(sa.select(alerts).where(*where(only), *bound).order_by(*latest_first).limit(limit))

    def after(self, only: Filter, seq: int, limit: int) -> list[Stored]:
        """Oldest first, at most `limit`, of those with a higher `seq`."""
        query = sa.select(alerts).where(*where(only), alerts.c.seq > seq).order_by(alerts.c.seq).limit(limit)
        return self._fetch(query)

    def opened(self) -> list[tuple[str, str, str, int]]:
        """(organisation, user, type, `scored_at` of the latest alert) of everybody who had one."""
        whose = alerts.c.organisation, alerts.c.user, alerts.c.type
        with self.engine.connect() as connection:
            found = connection.execute(sa.select(*whose, sa.func.max(alerts.c.scored_at)).group_by(*whose))
            return [(organisation, user, kind, int(ms)) for organisation, user, kind, ms in found]

    def close(self) -> None:
        self.engine.dispose()

    def _fetch(self, query: sa.Select[Any]) -> list[Stored]:
        with self.engine.connect() as connection:
            return [stored(row) for row in connection.execute(query).mappings()]


def open_alerts(settings: Settings) -> AlertStore:
    """The alert store of these settings, its table made if need be."""
    url = sa.make_url(settings.database)
    if url.get_backend_name() == "sqlite" and url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    store = AlertStore(settings.database)
    store.create()
    return store


def _head(connection: sa.Connection) -> int:
    return connection.execute(sa.select(sa.func.max(alerts.c.seq))).scalar() or 0


def _fresh(connection: sa.Connection, new: Sequence[Alert]) -> list[Alert]:
    """Those that are not there yet, each once."""
    first = {alert.id: alert for alert in reversed(new)}
    if not first:
        return []
    there = set(connection.execute(sa.select(alerts.c.id).where(alerts.c.id.in_(first))).scalars())
    return [first[id_] for id_ in dict.fromkeys(alert.id for alert in new) if id_ not in there]


def _facts(alert: Alert) -> Facts:
    return Facts(**{name: getattr(alert, name) for name in Facts.__struct_fields__ if hasattr(alert, name)})


def _row(alert: Alert) -> dict[str, Any]:
    values = msgspec.structs.asdict(alert)
    return values | {name: msgspec.json.encode(values[name]).decode() for name in JSON_COLUMNS}


def stored(row: sa.RowMapping) -> Stored:
    values = {name: row[name] for name in Alert.__struct_fields__}
    values |= {name: msgspec.json.decode(values[name]) for name in JSON_COLUMNS}
    return Stored(row["seq"], msgspec.convert(values, Alert))


def where(only: Filter) -> list[sa.ColumnElement[bool]]:
    """The tests of a query over `alerts`."""
    given = msgspec.structs.asdict(only)
    tests = [alerts.c[name] == given[name] for name in EXACT if given[name] is not None]
    if only.withheld is not None:
        tests.append(alerts.c.withheld.is_(only.withheld))
    if only.since is not None:
        tests.append(alerts.c.scored_at >= only.since)
    if only.until is not None:
        tests.append(alerts.c.scored_at < only.until)
    if only.min_score is not None:
        tests.append(alerts.c.score >= only.min_score)
    return tests


def matches(only: Filter, alert: Known) -> bool:
    """Whether the filter keeps the alert, as the queries do."""
    given = msgspec.structs.asdict(only)
    same = all(given[name] in (None, getattr(alert, name)) for name in EXACT)
    in_time = (only.since or 0) <= alert.scored_at and (only.until is None or alert.scored_at < only.until)
    shown = only.withheld in (None, alert.withheld)
    return same and shown and in_time and alert.score >= (only.min_score or 0.0)
