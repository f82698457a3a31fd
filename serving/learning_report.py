"""What online learners tell of a model, brought together: over time, and on either side of each change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import msgspec
import sqlalchemy as sa

from feature_repo.settings import Settings
from flows import database, learning_figures
from flows.learning_figures import Compared, Reported, SetAside
from serving.complaint import Complaint

POINTS = 40  # of a line, at most
WHO = {  # a line each: (learner, name in its figures) -> what the page calls it
    ("recalibration", "champion"): "champion",
    ("recalibration", "recalibrated"): "recalibrated",
    ("challenger_linear", "challenger"): "challenger, linear",
    ("challenger_forest", "challenger"): "challenger, forest",
}
FIGURES = ("log_loss", "predicted_over_observed", "roc_auc")


class Stretch(msgspec.Struct):
    """Some outcomes in a row, and how good one forecaster was on them; None: cannot be told of these.

    `since`, `until`: ms since 1970.
    """

    since: int
    until: int
    outcomes: int
    positive: int
    log_loss: float | None = None
    predicted_over_observed: float | None = None
    roc_auc: float | None = None


class Alarm(msgspec.Struct, frozen=True):
    """As learners tell it."""

    by: list[str]
    first: int
    last: int
    before: float
    after: float
    times: int = 1


class Place(msgspec.Struct):
    """A model's version in an organisation. `lines`: of each forecaster; `apart`: before
    the first change, between it and the next, and so on, who is known there.
    """

    model: str
    version: str
    organisation: str
    outcomes: int
    positive: int
    holds: dict[str, Any] | None
    learned: dict[str, Any]
    evidence: dict[str, Any]
    alarms: list[Alarm]
    lines: dict[str, list[Stretch]]
    apart: list[dict[str, Stretch]]
    total: dict[str, Stretch]


class Report(msgspec.Struct):
    """All of them, and what was not learned."""

    places: list[Place]
    set_aside: list[SetAside]
    withheld: list[Compared]
    learners: list[Reported]


def report(settings: Settings) -> Report:
    """From SQL, as of the learner's last snapshot. Raises Complaint where nothing was learned yet."""
    engine = database.engine(settings.database)
    try:
        with engine.connect() as connection:
            told = learning_figures.reported(connection)
            aside = learning_figures.set_aside(connection)
            whose = sorted({one.organisation for one in told if one.organisation})
            withheld = [found for name in whose for found in learning_figures.compared(connection, name)]
    except sa.exc.SQLAlchemyError as error:
        raise Complaint(f"nothing was learned here yet, or it cannot be read: {error}".split("\n")[0]) from None
    finally:
        engine.dispose()
    return Report(places(told), aside, withheld, told)


def places(told: Sequence[Reported]) -> list[Place]:
    """A place for each recalibration, with the challengers of its model beside it."""
    return [_place(one, [r for r in told if r.model == one.model]) for one in told if one.learner == "recalibration"]


def _place(own: Reported, beside: Sequence[Reported]) -> Place:
    alarms = msgspec.convert(own.report.get("alarms", []), list[Alarm], strict=False)
    seen = {alarm.first for alarm in alarms}
    told = [a for r in beside if r.learner == "drift" for a in msgspec.convert(r.report["alarms"], list[Alarm])]
    alarms += [alarm for alarm in told if alarm.first not in seen]
    found = {name: _stretches(learner, who, own, beside) for (learner, who), name in WHO.items()}
    found = {name: stretches for name, stretches in found.items() if stretches}
    changes = _changes(alarms)
    return Place(
        own.model,
        own.version,
        own.organisation,
        own.report["outcomes"],
        own.report["positive"],
        own.report["holds"],
        own.report["learned"],
        own.report["evidence"],
        sorted(alarms, key=lambda alarm: alarm.first),
        {name: _fewer(stretches) for name, stretches in found.items()},
        _between(found, changes),
        {name: together(stretches) for name, stretches in found.items()},
    )


def _changes(alarms: Sequence[Alarm]) -> list[int]:
    """When something changed; two detectors that saw the same count once."""
    found: list[int] = []
    for at in sorted(alarm.first for alarm in alarms):
        if not found or at - found[-1] > 86_400_000:
            found.append(at)
    return found


def _stretches(learner: str, who: str, own: Reported, beside: Sequence[Reported]) -> list[Stretch]:
    reports = [own] if learner == own.learner else [r for r in beside if r.learner == learner]
    return [
        Stretch(block["since"], block["until"], block["outcomes"], block["positive"], *(block[who][f] for f in FIGURES))
        for one in reports
        for block in one.report["progress"]
    ]


def together(of: Sequence[Stretch]) -> Stretch:
    """As one. Log loss goes by outcomes, calibration by what came about, AUC by pairs to be told apart."""
    outcomes, positive = sum(s.outcomes for s in of), sum(s.positive for s in of)
    return Stretch(
        of[0].since,
        of[-1].until,
        outcomes,
        positive,
        _mean([(s.log_loss, s.outcomes) for s in of]),
        _mean([(s.predicted_over_observed, s.positive) for s in of]),
        _mean([(s.roc_auc, s.positive * (s.outcomes - s.positive)) for s in of]),
    )


def _mean(of: Sequence[tuple[float | None, int]]) -> float | None:
    known = [(value, weight) for value, weight in of if value is not None]
    total = sum(weight for _, weight in known)
    return sum(value * weight for value, weight in known) / total if total else None


def _fewer(of: Sequence[Stretch]) -> list[Stretch]:
    """Neighbours as one; a short last one belongs to the one before, since few outcomes give any figure."""
    size = -(-len(of) // POINTS)
    groups = [list(of[low : low + size]) for low in range(0, len(of), size)]
    if len(groups) > 1 and 2 * sum(s.outcomes for s in groups[-1]) < sum(s.outcomes for s in groups[-2]):
        groups[-2:] = [groups[-2] + groups[-1]]
    return [together(group) for group in groups]


def _between(of: Mapping[str, Sequence[Stretch]], changes: Sequence[int]) -> list[dict[str, Stretch]]:
    """A stretch counts where it ends."""
    found = []
    for low, high in pairwise((-1, *changes, 1 << 62)):
        groups = {name: [s for s in stretches if low < s.until <= high] for name, stretches in of.items()}
        found.append({name: together(group) for name, group in groups.items() if group})
    return [period for period in found if period]
