"""What was learned online as one page of plain HTML: progressive figures over time, in pictures and tables."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from html import escape

from serving.charts import number
from serving.learning_report import Place, Report, Stretch
from serving.line_chart import Mark, lines
from serving.report_page import STYLE

KEYS = {
    "champion": "champion",
    "recalibrated": "recalibrated",
    "challenger, linear": "linear",
    "challenger, forest": "forest",
}
CHARTS = (
    ("log_loss", "Log loss: less is better", None),
    ("predicted_over_observed", "Calibration: predicted over observed, 1 is right", 1.0),
    ("roc_auc", "ROC-AUC: how well those with the outcome are told from those without", None),
)
MOST = 4.0  # of predicted over observed that is drawn: few outcomes may give any
OWN = """
:root { --champion: #7a8494; --recalibrated: #2f6bd8; --linear: #c76a16; --forest: #2c8a5b }
@media (prefers-color-scheme: dark) { :root { --champion: #9aa5b5; --recalibrated: #7aa7ff; --linear: #f0a254;
 --forest: #5cc792 } }
h3 { font-size: 1rem; margin: 1.4rem 0 .2rem } .lines { width: 100%; height: auto; max-width: 1100px }
.lines polyline { fill: none; stroke-width: 1.8; stroke-linejoin: round } .lines .goal { stroke: var(--soft) }
.lines .mark { stroke: var(--bad); stroke-dasharray: 4 3 }
.legend { font-size: 13px; color: var(--soft) } .legend span { margin-right: 1.2rem; white-space: nowrap }
.legend i { display: inline-block; width: 1.1rem; height: 3px; border-radius: 2px; margin-right: .4rem;
 vertical-align: middle }
""" + "".join(
    f"polyline.{key} {{ stroke: var(--{key}) }} circle.{key} {{ fill: var(--{key}) }}"
    f" .legend i.{key} {{ background: var(--{key}) }}\n"
    for key in KEYS.values()
)


def page(of: Report) -> str:
    """The whole page."""
    head = '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    size = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    return "\n".join(
        [
            f"{head}{size}<title>Learning</title><style>{STYLE}{OWN}</style></head><body>",
            "<h1>What outcomes taught</h1><p class=soft>Each forecaster said its probability when the score was made,",
            "and learned the label when it came.</p>",
            *([] if of.places else ["<p>No outcome was learned yet.</p>"]),
            *(part for place in of.places for part in _place(place)),
            *_aside(of),
            *_legend(),
            "</body></html>",
        ]
    )


def _place(of: Place) -> Iterator[str]:
    yield f"<h2>{escape(of.model)} <span class=soft>{escape(of.version)}, {escape(of.organisation)}</span></h2>"
    yield from _tiles(of)
    marks = [Mark(a.first, f"{_day(a.first)}: {', '.join(a.by)}, {_moved(a.before, a.after)}") for a in of.alarms]
    names = {key: name for name, key in KEYS.items()}
    for figure, title, level in CHARTS:
        series = {KEYS[name]: _points(stretches, figure) for name, stretches in of.lines.items()}
        yield f"<h3>{title}</h3>{lines(series, names, marks, level)}"
    yield from _apart(of)
    yield from _alarms(of)


def _points(of: list[Stretch], figure: str) -> list[tuple[float, float]]:
    found = [(float(s.until), getattr(s, figure)) for s in of]
    return [(x, min(y, MOST) if figure == "predicted_over_observed" else y) for x, y in found if y is not None]


def _tiles(of: Place) -> Iterator[str]:
    total = of.total
    own, ours = total.get("champion"), total.get("recalibrated")
    holds = f"a {of.holds['a']:.2f}, b {of.holds['b']:+.2f}" if of.holds else "the model's own"
    yield "<div class=tiles>"
    yield _tile(f"{of.outcomes:,}", f"outcomes, {of.positive:,} came about")
    yield _tile(holds, "calibration that holds now")
    yield _tile(f"{of.evidence['nats']:.1f} of {of.evidence['wanted']:.1f}", "nats that it would be better by")
    for says, one in (("champion", own), ("recalibrated", ours)):
        if one is not None:
            yield _tile(number(one.predicted_over_observed), f"predicted over observed, {says}")
    yield _tile(f"{len(of.alarms)}", "alarms", "fair" if of.alarms else "good")
    yield "</div>"


def _tile(value: str, says: str, grade: str = "") -> str:
    return f'<div class=tile><b class="{grade}">{escape(value)}</b><span class=soft>{escape(says)}</span></div>'


def _apart(of: Place) -> Iterator[str]:
    """The forecasters beside each other, on either side of each change."""
    yield "<h3>Before and after each change</h3><table><thead><tr><th>labels told<th>who<th class=n>outcomes"
    yield "<th class=n>came about<th class=n>log loss<th class=n>predicted / observed<th class=n>ROC-AUC</tr></thead>"
    for period in of.apart:
        when = next(iter(period.values()))
        says = f"<b>{_day(when.since)}</b> to <b>{_day(when.until)}</b>"
        for name, one in period.items():
            figures = (one.log_loss, one.predicted_over_observed, one.roc_auc)
            yield f"<tr><td>{says}<td>{escape(name)}<td class=n>{one.outcomes:,}<td class=n>{one.positive:,}"
            yield "".join(f"<td class=n>{number(figure)}" for figure in figures) + "</tr>"
            says = ""
    yield "</table>"


def _alarms(of: Place) -> Iterator[str]:
    if not of.alarms:
        return
    yield "<h3>Alarms</h3><table><thead><tr><th>first seen<th>last seen<th>by<th class=n>times"
    yield "<th>mean error: label less probability</tr></thead>"
    for one in of.alarms:
        yield f"<tr><td>{_day(one.first)}<td>{_day(one.last)}<td>{escape(', '.join(one.by))}<td class=n>{one.times:,}"
        yield f"<td>{_moved(one.before, one.after)}</tr>"
    yield "</table>"


def _aside(of: Report) -> Iterator[str]:
    if of.set_aside:
        yield "<h2>Not learned</h2><table><thead><tr><th>why<th>of<th class=n>outcomes</tr></thead>"
        for one in of.set_aside:
            yield f"<tr><td>{escape(one.reason)}<td>{escape(one.source)}<td class=n>{one.count:,}</tr>"
        yield "</table>"
    if of.withheld:
        yield "<h2>Alerts that nobody was told of, beside the others</h2><table><thead><tr><th>model<th class=n>told"
        yield "<th class=n>came about<th class=n>withheld<th class=n>came about</tr></thead>"
        for each in of.withheld:
            groups = "".join(
                f"<td class=n>{g.labelled:,}<td class=n>{g.came_about:,}" for g in (each.told, each.withheld)
            )
            yield f"<tr><td>{escape(each.model)}{groups}</tr>"
        yield "</table>"


def _day(at: int) -> str:
    return f"{datetime.fromtimestamp(at / 1000, UTC):%Y-%m-%d %H:%M}"


def _moved(before: float, after: float) -> str:
    return f"{before:+.3f} to {after:+.3f}"


def _legend() -> Iterator[str]:
    yield "<h2>How to read this</h2><p class=soft>The champion is the version that scores, with its own calibration;"
    yield "recalibrated is what was learned of two numbers over it, whether they hold or not; the challengers learn"
    yield "from the features alone. Red lines are alarms: adwin and page_hinkley saw the champion's errors change,"
    yield "one_sided is a flood of outcomes of one kind. ROC-AUC is of pairs within a hundred outcomes. What was"
    yield "corrected later counts here as it was told first. Of the forest a share of outcomes is judged; it cannot"
    yield "take back what it learned.</p>"
