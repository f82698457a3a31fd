"""Statistics over an organisation's alerts between any two moments, from sums that are kept as alerts change.

Whole spans come from the tallies, the coarsest first; what is left at either end, less than an hour, from the alerts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import get_args

import msgspec
import sqlalchemy as sa

from feature_repo.finish import DAY, HOUR
from flows.alert import Priority, Status
from flows.alert_table import alerts
from flows.alert_tally import BANDS, FACTS, MEASURES, RIGHT, SPANS, Place, measured, places, read, tallies
from flows.estimates import Amount, Share, mean, share, total

YEAR = 365
END = 100_000 * SPANS[0] * HOUR  # later than anything, ms since 1970
Range = tuple[int, int]  # ms since 1970: from, up to but without
Sums = Mapping[str, float]  # measure -> sum
_NONE: Sums = dict.fromkeys(MEASURES, 0.0)


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """Some of the alerts. `told`: those with an outcome; `conversion`: the share of all that converted.

    `precision`: true positives of all positives told, so its complement is the share of wrong alerts.
    """

    alerts: int
    told: int
    converted: int
    conversion: Share
    precision: Share


class Summary(Slice, frozen=True, kw_only=True):
    """Alerts with what they brought, in the unit of the values told.

    `revenue`: the sum of the values of conversions; `cost`: of the alerts, null where none is set; `return_on_cost`:
    revenue for each unit of cost (1: they paid for themselves); `hours_to_conversion`: mean, from score to conversion.
    """

    revenue: Amount
    cost: float | None
    return_on_cost: Amount | None
    hours_to_conversion: Amount


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """Alerts by what they are. Withheld ones are in `withheld` alone: what becomes of people of whom nobody is told."""

    totals: Summary
    by_type: dict[str, Summary]
    by_status: dict[Status, int]
    by_priority: dict[Priority, Slice]
    by_score: dict[str, Slice]
    withheld: Slice


class Performance(msgspec.Struct, frozen=True, kw_only=True):
    """A version of a model by its alerts, withheld ones too.

    `predicted`: mean score of the alerts told; `observed`: the share of them that did what was predicted (true
    positives, false negatives); `brier`: mean squared distance of the score from that. Alerts have high scores: that
    says nothing of people below the threshold.
    """

    model: str
    version: str
    type: str
    alerts: int
    told: int
    conversion: Share
    precision: Share
    predicted: float | None
    observed: Share
    brier: float | None


def stats(connection: sa.Connection, organisation: str, when: Range, type_: str | None, cost: float) -> Stats:
    """Of alerts scored within `when`, of all types or of one. `cost`: of an alert, 0: not known."""
    found = sums(connection, organisation, when, type_)
    types = sorted({kind for kind, _, _ in found})
    priority = {kind: _of(found, "priority", kind) for kind in types}
    return Stats(
        totals=_summary(_added(priority.values()), cost),
        by_type={kind: _summary(priority[kind], cost) for kind in types},
        by_status={one: round(_of(found, "status", value=one)["alerts"]) for one in get_args(Status)},
        by_priority={one: _slice(_of(found, "priority", value=one)) for one in get_args(Priority)},
        by_score={f"{n / BANDS:.1f}": _slice(_of(found, "band", value=str(n))) for n in range(BANDS)},
        withheld=_slice(_of(found, "withheld")),
    )


def performance(connection: sa.Connection, organisation: str, when: Range) -> list[Performance]:
    """Of every version of every model that raised alerts scored within `when`; the newest version of each first."""
    found = sums(connection, organisation, when)
    rows = [(value, kind, one) for (kind, by, value), one in found.items() if by == "version" and one["alerts"]]
    made = [_performance(value, kind, one) for value, kind, one in rows]
    return sorted(sorted(made, key=lambda p: p.version, reverse=True), key=lambda p: p.model)


def first(connection: sa.Connection, organisation: str) -> int | None:
    """The beginning of the day of the organisation's first alert, ms since 1970."""
    query = sa.select(sa.func.min(tallies.c.start)).where(tallies.c.organisation == organisation, tallies.c.span == 24)
    return connection.execute(query).scalar()


def sums(
    connection: sa.Connection, organisation: str, when: Range, type_: str | None = None
) -> dict[Place, dict[str, float]]:
    """Every measure's sum over the alerts scored within `when`, by type, dimension and its value."""
    found: dict[Place, dict[str, float]] = {}
    for span, part in cover(when):
        args = connection, organisation, part, type_
        for place, measures in _spans(*args, span) if span else _rest(*args):
            mine = found.setdefault(place, dict(_NONE))
            for name, measure in zip(MEASURES, measures, strict=True):
                mine[name] += measure
    return found


def cover(when: Range, spans: tuple[int, ...] = SPANS) -> Iterator[tuple[int, Range]]:
    """(span in hours, range) of aligned spans, and of what they leave (span 0), which make up `when` together."""
    start, end = when
    if start >= end:
        return
    if not spans:
        yield 0, when
        return
    size = spans[0] * HOUR
    low, high = -(-start // size) * size, end // size * size
    if low >= high:
        yield from cover(when, spans[1:])
        return
    yield from cover((start, low), spans[1:])
    yield spans[0], (low, high)
    yield from cover((high, end), spans[1:])


def _spans(
    connection: sa.Connection, organisation: str, when: Range, type_: str | None, span: int
) -> Iterator[tuple[Place, tuple[float, ...]]]:
    c = tallies.c
    mine = [c.organisation == organisation, c.span == span, c.start >= when[0], c.start < when[1]]
    mine += [] if type_ is None else [c.type == type_]
    place = c.type, c.dimension, c.value_of
    query = sa.select(*place, *(sa.func.sum(c[name]) for name in MEASURES)).where(*mine).group_by(*place)
    return (((row[0], row[1], row[2]), tuple(row[3:])) for row in connection.execute(query))


def _rest(
    connection: sa.Connection, organisation: str, when: Range, type_: str | None
) -> Iterator[tuple[Place, tuple[float, ...]]]:
    c = alerts.c
    mine = [c.organisation == organisation, c.scored_at >= when[0], c.scored_at < when[1]]
    mine += [] if type_ is None else [c.type == type_]
    for row in connection.execute(sa.select(*FACTS).where(*mine)).mappings():
        one = read(row)
        yield from ((place, measured(one)) for place in places(one))


def _of(found: Mapping[Place, Sums], dimension: str, type_: str | None = None, value: str | None = None) -> Sums:
    return _added(
        one
        for (kind, by, what), one in found.items()
        if by == dimension and type_ in (None, kind) and value in (None, what)
    )


def _added(some: Iterable[Sums]) -> Sums:
    added = dict(_NONE)
    for one in some:
        for name in MEASURES:
            added[name] += one[name]
    return added


def _slice(of: Sums) -> Slice:
    return Slice(
        alerts=round(of["alerts"]),
        told=round(of["told"]),
        converted=round(of["converted"]),
        conversion=share(of["converted"], of["alerts"]),
        precision=share(of["true_positive"], of["true_positive"] + of["false_positive"]),
    )


def _summary(of: Sums, cost: float) -> Summary:
    revenue, spent = total(of["value"], of["value_squares"], of["alerts"]), cost * of["alerts"]
    return Summary(
        **msgspec.structs.asdict(_slice(of)),
        revenue=revenue,
        cost=spent if cost else None,
        return_on_cost=_over(revenue, spent) if spent else None,
        hours_to_conversion=mean(of["hours"], of["hours_squares"], of["timed"]),
    )


def _over(amount: Amount, by: float) -> Amount:
    low, middle, high = (None if x is None else x / by for x in (amount.low, amount.amount, amount.high))
    return Amount(middle, low, high, amount.of)


def _performance(version_of: str, type_: str, of: Sums) -> Performance:
    model, _, version = version_of.partition(" ")
    told, mine = of["told"], _slice(of)
    return Performance(
        alerts=mine.alerts,
        told=mine.told,
        conversion=mine.conversion,
        precision=mine.precision,
        model=model,
        version=version,
        type=type_,
        predicted=of["score"] / told if told else None,
        observed=share(sum(of[kind.lower()] for kind in RIGHT), told),
        brier=of["score_errors"] / told if told else None,
    )


def days(when: Range) -> float:
    """How long that is; at least one."""
    return max((when[1] - when[0]) / DAY, 1.0)
