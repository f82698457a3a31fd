"""A line chart in SVG, with its legend, for pages that have no script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import ceil, floor, log10

import msgspec

from serving.charts import number

WIDTH, HEIGHT = 1100, 230
LEFT, RIGHT, TOP, BOTTOM = 56, 14, 14, 24
TICKS = 4
_DAY = 86_400_000
Points = Sequence[tuple[float, float]]


class Mark(msgspec.Struct, frozen=True):
    """Something that happened at `x`, in words."""

    x: float
    says: str


def lines(
    series: Mapping[str, Points], names: Mapping[str, str], marks: Sequence[Mark] = (), level: float | None = None
) -> str:
    """Each series' points as a line of the class of its key; x in ms since 1970. `level`: a line to reach.

    `names`: of the legend, by key.
    """
    shown = {key: points for key, points in series.items() if points}
    if not shown:
        return "<p class=soft>Nothing to draw yet.</p>"
    x = _ends([point[0] for points in shown.values() for point in points])
    values = [point[1] for points in shown.values() for point in points] + ([] if level is None else [level])
    frame = _Frame(*x, *_round(min(values), max(values)))
    parts = [*_grid(frame), *_days(frame), *(_mark(frame, mark) for mark in marks if frame.holds(mark.x))]
    if level is not None:
        parts.append(
            f'<line class="goal" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{frame.y(level)}" y2="{frame.y(level)}"/>'
        )
    parts += [_line(frame, key, names[key], points) for key, points in shown.items()]
    told = ", ".join(names[key] for key in shown)
    svg = f'<svg class="lines" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(told)} over time">'
    return legend(shown, names) + svg + "".join(parts) + "</svg>"


def legend(keys: Mapping[str, object], names: Mapping[str, str]) -> str:
    items = "".join(f'<span><i class="{escape(key)}"></i>{escape(names[key])}</span>' for key in keys)
    return f"<p class=legend>{items}</p>"


class _Frame(msgspec.Struct, frozen=True):
    """From values to pixels."""

    left: float
    right: float
    low: float
    high: float

    def x(self, value: float) -> str:
        return f"{LEFT + (WIDTH - LEFT - RIGHT) * (value - self.left) / (self.right - self.left):.1f}"

    def y(self, value: float) -> str:
        share = (value - self.low) / (self.high - self.low)
        return f"{HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share:.1f}"

    def holds(self, x: float) -> bool:
        return self.left <= x <= self.right


def _ends(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - _DAY / 2, high + _DAY / 2)


def _step(low: float, high: float) -> float:
    """A round number of which a few lie between the two."""
    rough = (high - low or abs(high) or 1.0) / TICKS
    size = 10.0 ** floor(log10(rough))
    return next(size * k for k in (1, 2, 2.5, 5, 10) if size * k >= rough)


def _round(low: float, high: float) -> tuple[float, float]:
    step = _step(low, high)
    ends = floor(low / step) * step, ceil(high / step) * step
    return ends if ends[1] > ends[0] else (ends[0], ends[0] + step)


def _grid(frame: _Frame) -> list[str]:
    step = _step(frame.low, frame.high)
    found = []
    for k in range(round((frame.high - frame.low) / step) + 1):
        value = frame.low + k * step
        y = frame.y(value)
        found.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        found.append(f'<text x="{LEFT - 6}" y="{float(y) + 3.5:.1f}" text-anchor="end">{number(value + 0.0)}</text>')
    return found


def _days(frame: _Frame) -> list[str]:
    from datetime import UTC, datetime

    far = frame.right - frame.left
    form = "%Y-%m-%d" if far > 4 * _DAY else "%m-%d %H:%M"
    found = []
    for k in range(7):
        at = frame.left + far * k / 6
        anchor = "start" if not k else "end" if k == 6 else "middle"
        says = f"{datetime.fromtimestamp(at / 1000, UTC):{form}}"
        found.append(f'<text x="{frame.x(at)}" y="{HEIGHT - 6}" text-anchor="{anchor}">{says}</text>')
    return found


def _mark(frame: _Frame, mark: Mark) -> str:
    x = frame.x(mark.x)
    shape = f'<line class="mark" x1="{x}" x2="{x}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
    return f"<g>{shape}<title>{escape(mark.says)}</title></g>"


def _line(frame: _Frame, key: str, name: str, points: Points) -> str:
    places = [(frame.x(x), frame.y(y)) for x, y in points]
    path = " ".join(f"{x},{y}" for x, y in places)
    last = f"{escape(name)}: {number(points[-1][1])} at the end"
    dot = f'<circle class="{escape(key)}" cx="{places[-1][0]}" cy="{places[-1][1]}" r="3"/>'
    return f'<g><polyline class="{escape(key)}" points="{path}"/>{dot}<title>{last}</title></g>'
