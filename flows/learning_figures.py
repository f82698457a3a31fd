"""What the learner says of itself: for /metrics, and for people."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from flows.learners.example import Place
from flows.learning_tables import aside, examples, journal, learners, waiting

Reports = Mapping[tuple[str, Place], dict[str, Any]]  # by learner and place


class Group(msgspec.Struct, frozen=True):
    """Some alerts: how many, of how many it is known what became of them, and of how many it came about."""

    alerts: int = 0
    labelled: int = 0
    came_about: int = 0


class Compared(msgspec.Struct, frozen=True):
    """A model's alerts that people were told of, and those that were withheld."""

    model: str
    told: Group
    withheld: Group


class SetAside(msgspec.Struct, frozen=True):
    """Outcomes that were not learned, since the database was created."""

    reason: str
    source: str
    count: int


class Reported(msgspec.Struct, frozen=True):
    """What a learner says of itself; `organisation` and `version` empty where it is of all."""

    learner: str
    model: str
    version: str
    organisation: str
    report: dict[str, Any]


def totals(connection: sa.Connection) -> dict[str, float]:
    """By name, as /metrics has them (`name@label=value` where they are told apart)."""
    corrected = sa.select(sa.func.count()).select_from(journal).where(journal.c.revision > 0)
    found = {
        "alive_at": time.time(),
        "learned": _number(connection, sa.select(sa.func.max(journal.c.seq))),
        "corrected": _number(connection, corrected),
        "open": _number(connection, sa.select(sa.func.count()).where(examples.c.due.is_not(None))),
        "waiting": _number(connection, sa.select(sa.func.count()).select_from(waiting)),
    }
    return found | {f"set_aside@reason={one.reason}": float(one.count) for one in _by_reason(set_aside(connection))}


def _number(connection: sa.Connection, query: sa.Select[Any]) -> float:
    return float(connection.execute(query).scalar() or 0)


def _by_reason(told: list[SetAside]) -> list[SetAside]:
    reasons = sorted({one.reason for one in told})
    return [SetAside(reason, "", sum(one.count for one in told if one.reason == reason)) for reason in reasons]


def of_learners(reports: Reports) -> dict[str, float]:
    """Alarms of each model: how many, when the last was first seen (seconds since 1970), how far the error moved."""
    found: dict[str, float] = {}
    for (_, place), report in sorted(reports.items()):
        alarms = report.get("alarms") or []
        name = f"alarms@model={place.model}"
        found[name] = found.get(name, 0.0) + len(alarms)
        for alarm in alarms:
            at = alarm["first"] / 1000
            if at >= found.get(f"alarm_at@model={place.model}", 0.0):
                found[f"alarm_at@model={place.model}"] = at
                found[f"alarm_size@model={place.model}"] = alarm["after"] - alarm["before"]
        holds = f"calibrations@model={place.model}"
        found[holds] = found.get(holds, 0.0) + (report.get("holds") is not None)
    return found


def set_aside(connection: sa.Connection) -> list[SetAside]:
    """Most first."""
    query = sa.select(aside.c.reason, aside.c.source, aside.c.count).order_by(aside.c.count.desc(), aside.c.reason)
    return [SetAside(*row) for row in connection.execute(query)]


def compared(connection: sa.Connection, organisation: str) -> list[Compared]:
    """Of an organisation, by model."""
    c = examples.c
    known = sa.func.count(c.label), sa.func.coalesce(sa.func.sum(c.label), 0)
    mine = c.organisation == organisation, c.source == "alert"
    query = sa.select(c.model, c.withheld, sa.func.count(), *known).where(*mine).group_by(c.model, c.withheld)
    found: dict[str, dict[bool, Group]] = {}
    for model, withheld, *numbers in connection.execute(query):
        found.setdefault(model, {})[bool(withheld)] = Group(*map(int, numbers))
    none = Group()
    return [Compared(model, of.get(False, none), of.get(True, none)) for model, of in sorted(found.items())]


def reported(connection: sa.Connection, organisation: str | None = None) -> list[Reported]:
    """By model; of one organisation's learners and those of all, or (None) of everybody's."""
    c = learners.c
    query = sa.select(c.kind, c.model, c.version, c.organisation, c.report)
    if organisation is not None:
        query = query.where(c.organisation.in_([organisation, ""]))
    found = connection.execute(query.order_by(c.model, c.kind, c.version, c.organisation))
    return [Reported(*row[:4], msgspec.json.decode(row.report)) for row in found]
