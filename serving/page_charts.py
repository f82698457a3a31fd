"""The page's drawings (SVG): a course over time, bars by day, shares with their intervals. Colours are classes'."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from html import escape

from markupsafe import Markup

from serving.charts import share

TREND_WIDTH, TREND_HEIGHT = 160, 26
COLUMNS = 720  # width of the drawing, stretched to its place


def trend(course: Sequence[tuple[str, float]]) -> Markup:
    """A line from (ISO time, 0-1), oldest first, time to scale; at least two points."""
    times = [datetime.fromisoformat(at).timestamp() for at, _ in course]
    span = (times[-1] - times[0]) or 1.0
    points = " ".join(
        f"{(t - times[0]) / span * TREND_WIDTH:.1f},{1 + (1 - score) * (TREND_HEIGHT - 2):.1f}"
        for t, (_, score) in zip(times, course, strict=True)
    )
    low, high = min(score for _, score in course), max(score for _, score in course)
    says = f"scores from {course[0][0][:10]} on, between {share(low)} and {share(high)}"
    return Markup(  # noqa: S704 # made of numbers and of what is escaped
        f'<svg class="trend" viewBox="0 0 {TREND_WIDTH} {TREND_HEIGHT}" width="{TREND_WIDTH}" height="{TREND_HEIGHT}" '
        f'role="img" aria-label="{escape(says)}"><title>{escape(says)}</title><polyline points="{points}"/></svg>'
    )


def bar(part: float, mark: float | None = None, kind: str = "") -> Markup:
    """A bar of 0-1 on its ground; `mark`: where something begins."""
    line = "" if mark is None else f'<rect class="mark" x="{mark * 100:.1f}" y="0" width=".8" height="8"/>'
    return Markup(  # noqa: S704 # numbers alone
        '<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="ground" width="100" height="8"/><rect class="part {escape(kind)}" width="{part * 100:.1f}" '
        f'height="8"/>{line}</svg>'
    )


def columns(told: Sequence[tuple[str, float, float]]) -> Markup:
    """A column a bucket: (what it says, height, height of its marked part). Labels stand beside it, in HTML."""
    highest = max((whole for _, whole, _ in told), default=0) or 1
    step = COLUMNS / max(len(told), 1)
    drawn = "".join(
        f"<g><title>{escape(says)}</title>"
        f'<rect class="ground" x="{i * step:.2f}" width="{step:.2f}" height="100"/>'
        f"{_column(i * step, step, whole / highest, 'part')}{_column(i * step, step, part / highest, 'told')}</g>"
        for i, (says, whole, part) in enumerate(told)
    )
    return Markup(  # noqa: S704 # numbers, and what is escaped
        f'<svg class="columns-chart" viewBox="0 0 {COLUMNS} 100" preserveAspectRatio="none" aria-hidden="true">'
        f"{drawn}</svg>"
    )


def _column(x: float, step: float, part: float, kind: str) -> str:
    height = max(part * 98, 1.0 if part else 0.0)
    place = f'x="{x + step * 0.1:.2f}" y="{100 - height:.2f}" width="{step * 0.8:.2f}" height="{height:.2f}"'
    return f'<rect class="{kind}" {place}/>'


def interval(value: float | None, low: float | None, high: float | None, most: float = 1.0) -> Markup:
    """A share with its interval, on a line from 0 to `most`."""
    if value is None:
        return Markup("")
    low, high = low if low is not None else value, high if high is not None else value
    x = [min(max(n / (most or 1.0), 0.0), 1.0) * 100 for n in (low, value, high)]
    return Markup(  # noqa: S704 # numbers alone
        '<svg class="interval" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="ground" y="4" width="100" height="2"/>'
        f'<rect class="range" x="{x[0]:.2f}" y="3" width="{max(x[2] - x[0], 0.4):.2f}" height="4"/>'
        f'<rect class="part" x="{max(x[1] - 0.5, 0):.2f}" width="1" height="10"/></svg>'
    )


def calibration(points: Sequence[tuple[float, float, float]]) -> Markup:
    """Predicted against observed (both 0-1), weighted: on the diagonal a score is what it says."""
    most = max((weight for *_, weight in points), default=1.0) or 1.0
    drawn = "".join(
        f'<circle cx="{x * 100:.1f}" cy="{100 - y * 100:.1f}" r="{1.5 + 3 * (weight / most) ** 0.5:.1f}">'
        f"<title>predicted {share(x)}, observed {share(y)}, of {weight:,.0f}</title></circle>"
        for x, y, weight in points
    )
    return Markup(  # noqa: S704 # numbers alone
        '<svg class="calibration" viewBox="-3 -3 106 106" role="img" aria-label="predicted against observed">'
        f'<rect class="ground" width="100" height="100"/><line x1="0" y1="100" x2="100" y2="0"/>{drawn}</svg>'
    )
