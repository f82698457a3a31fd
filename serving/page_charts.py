"""The page's drawings (SVG): a course over time, bars by day, shares with their intervals. Colours are classes'."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from html import escape

from markupsafe import Markup

from serving.charts import share

TREND_WIDTH, TREND_HEIGHT = 160, 26


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
