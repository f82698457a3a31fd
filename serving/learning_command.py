"""`telltale learning ...`: what outcomes taught between two trainings."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from feature_repo.settings import Settings
from serving.sub_command import add, write

if TYPE_CHECKING:
    from serving.learning_report import Place, Report, Stretch

Do = Callable[[Settings, argparse.Namespace], int]


def options(learning: argparse.ArgumentParser) -> None:
    commands = learning.add_subparsers(title="commands", metavar="COMMAND", required=True)
    status = add(commands, "status", "each model's learners: figures, what holds, alarms", _status)
    report = add(commands, "report", "the same over time as a page, with pictures", _report)
    report.add_argument("--out", type=Path, help="the file to write; a page goes to learning.html unless told")
    for one in (status, report):
        one.add_argument("--json", action="store_true", help="for a machine")


def run(settings: Settings, given: argparse.Namespace) -> int:
    """Raises Complaint where nothing was learned yet."""
    return int(given.do(settings, given))


def _status(settings: Settings, given: argparse.Namespace) -> int:
    import msgspec

    from serving.learning_report import report

    found = report(settings)
    print(msgspec.json.encode(found.learners).decode() if given.json else "\n".join(_told(found)))
    return 0


def _told(found: Report) -> Iterable[str]:
    if not found.places:
        yield "no outcome was learned yet"
    for place in found.places:
        yield from _of(place)
    for one in found.set_aside:
        yield f"not learned: {one.count:,} of {one.source}: {one.reason}"


def _of(place: Place) -> Iterable[str]:
    yield f"{place.model} {place.version}, {place.organisation}"
    yield f"  {place.outcomes:,} outcomes, {place.positive:,} came about"
    if place.holds:
        yield f"  holds: a {place.holds['a']:.3f}, b {place.holds['b']:+.3f}, {place.holds['why']}"
    else:
        nats, wanted = place.evidence["nats"], place.evidence["wanted"]
        yield f"  holds: the model's own calibration; better by {nats:.1f} nats, {wanted:.1f} wanted"
    for name, total in place.total.items():
        yield f"  {name:20}{_figures(total)}"
    for alarm in place.alarms[-3:]:
        moved = f"mean error {alarm.before:+.3f} to {alarm.after:+.3f}"
        yield f"  alarm: {', '.join(alarm.by)}, {moved}, {_at(alarm.first)}"


def _figures(of: Stretch) -> str:
    from serving.charts import number

    log_loss, ratio, auc = map(number, (of.log_loss, of.predicted_over_observed, of.roc_auc))
    return f"log loss {log_loss}  predicted/observed {ratio}  ROC-AUC {auc}  of {of.outcomes:,}"


def _at(ms: int) -> str:
    from datetime import UTC, datetime

    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M} UTC"


def _report(settings: Settings, given: argparse.Namespace) -> int:
    import msgspec

    from serving.learning_page import page
    from serving.learning_report import report

    found = report(settings)
    text = msgspec.json.encode(found).decode() if given.json else page(found)
    write(text, given.out, "learning.html", screen=given.json)
    return 0
