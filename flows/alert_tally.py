"""Sums over alerts by type and by what can be told apart, kept in the transaction of each change.

A tally holds the alerts scored in a span of an hour, a day or four weeks (UTC, aligned to 1970), so any dates are a few
spans and less than an hour at either end. `dimension` says by what: `status`, `priority`, `band` (tenth of the score),
`version` (of the model), or `withheld`. Withheld alerts are in `withheld` and `version` alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, get_args

import msgspec
import sqlalchemy as sa

from feature_repo.finish import HOUR
from flows import database
from flows.alert import Judgement, Priority, Status
from flows.alert_table import alerts

SPANS = (672, 24, 1)  # hours
BANDS = 10
JUDGEMENTS: tuple[Judgement, ...] = get_args(Judgement)
RIGHT: tuple[Judgement, ...] = ("TRUE_POSITIVE", "FALSE_NEGATIVE")  # they did what was predicted
CHUNK = 5_000  # rows at once, to fill a new table
MEASURES = (
    "alerts",
    "told",  # with an outcome
    *map(str.lower, JUDGEMENTS),
    "converted",
    "value",
    "value_squares",
    "score",  # sums over those told
    "score_errors",  # squared distance of the score from what came
    "timed",  # converted, and it is known when
    "hours",  # from the score to the conversion
    "hours_squares",
)
Measures = tuple[float, ...]  # in that order

tallies = sa.Table(
    "alert_tallies",
    database.metadata,
    sa.Column("organisation", sa.Text, primary_key=True),
    sa.Column("span", sa.Integer, primary_key=True),
    sa.Column("start", sa.BigInteger, primary_key=True),
    sa.Column("type", sa.String(64), primary_key=True),
    sa.Column("dimension", sa.String(16), primary_key=True),
    sa.Column("value_of", sa.String(200), primary_key=True),
    *(sa.Column(name, sa.Double, nullable=False, server_default="0") for name in MEASURES),
    sqlite_with_rowid=False,
)

COLUMNS = tuple(tallies.c.keys())


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What of an alert is tallied. Times are ms since 1970; `outcome`, `value`, `converted_at` as told last."""

    organisation: str
    type: str
    priority: Priority
    score: float
    model: str
    model_version: str
    scored_at: int
    withheld: bool
    status: Status
    status_at: int
    outcome: Judgement | None = None
    converted: bool = False
    value: float | None = None
    converted_at: int | None = None

    @property
    def has_converted(self) -> bool:
        """As was told; where nothing was told, by its status."""
        return self.converted if self.outcome else self.status == "CONVERTED"


Place = tuple[str, str, str]  # type, dimension, its value
FACTS = tuple(alerts.c[name] for name in Facts.__struct_fields__)


def move(connection: sa.Connection, before: Sequence[Facts], after: Sequence[Facts]) -> None:
    """Takes the alerts as they were out of the tallies, and puts them in as they are."""
    sums: dict[tuple[Any, ...], list[float]] = defaultdict(lambda: [0.0] * len(MEASURES))
    for facts, sign in ((before, -1.0), (after, 1.0)):
        for one in facts:
            added = [(i, sign * measure) for i, measure in enumerate(measured(one)) if measure]
            for total in [sums[key] for key in _keys(one)]:
                for i, measure in added:
                    total[i] += measure
    rows = [dict(zip(COLUMNS, (*key, *total), strict=True)) for key, total in sums.items() if any(total)]
    if rows:
        new = database.insert(connection, tallies)
        moved = {name: tallies.c[name] + new.excluded[name] for name in MEASURES}
        keys = [column.name for column in tallies.primary_key]
        connection.execute(new.on_conflict_do_update(index_elements=keys, set_=moved), rows)


def _keys(one: Facts) -> Iterator[tuple[Any, ...]]:
    """Of the rows that an alert is in, in the order of the table's key."""
    found = list(places(one))
    for span in SPANS:
        start = one.scored_at // (span * HOUR) * span * HOUR
        for place in found:
            yield one.organisation, span, start, *place


def places(one: Facts) -> Iterator[Place]:
    """Where an alert is tallied."""
    yield one.type, "version", f"{one.model} {one.model_version}"
    if one.withheld:
        yield one.type, "withheld", "true"
        return
    yield one.type, "status", one.status
    yield one.type, "priority", one.priority
    yield one.type, "band", str(min(int(one.score * BANDS), BANDS - 1))


def measured(one: Facts) -> Measures:
    """What one alert adds to each of `MEASURES`."""
    told, gone = one.outcome is not None, one.has_converted
    worth = (one.value or 0.0) if gone else 0.0
    at = one.converted_at if told else one.status_at
    hours = (at - one.scored_at) / HOUR if gone and at is not None else 0.0
    missed = one.score - float(one.outcome in RIGHT)
    return (
        1.0,
        float(told),
        *(float(one.outcome == kind) for kind in JUDGEMENTS),
        float(gone),
        worth,
        worth * worth,
        one.score * told,
        missed * missed * told,
        float(gone and at is not None),
        hours,
        hours * hours,
    )


def facts(connection: sa.Connection, ids: Iterable[str]) -> dict[str, Facts]:
    """Of the alerts that there are, by id."""
    rows = connection.execute(sa.select(alerts.c.id, *FACTS).where(alerts.c.id.in_(list(ids)))).mappings()
    return {row["id"]: read(row) for row in rows}


def read(row: sa.RowMapping) -> Facts:
    return Facts(**{name: row[name] for name in Facts.__struct_fields__})


def fill(connection: sa.Connection) -> None:
    """From all alerts that there are."""
    last = 0
    while rows := connection.execute(
        sa.select(alerts.c.seq, *FACTS).where(alerts.c.seq > last).order_by(alerts.c.seq).limit(CHUNK)
    ).all():
        move(connection, [], [read(row._mapping) for row in rows])  # noqa: SLF001  # SQLAlchemy's public name
        last = rows[-1].seq


tallies.info["fill"] = fill
