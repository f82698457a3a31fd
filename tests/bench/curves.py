"""A curve as SVG: what something comes to over sizes that grow by factors, so x is logarithmic and y begins at 0."""

from __future__ import annotations

from html import escape
from math import ceil, floor, log10

from tests.bench.result import Curve

WIDTH, HEIGHT = 268, 180
LEFT, RIGHT, TOP, BOTTOM = 46, 6, 18, 34
INSET = 18  # of the first and last point
LINES = 4  # of the grid, about
STYLE = """
.curves { display: flex; flex-wrap: wrap; gap: 1rem; margin-top: .8rem }
.curve { width: 268px; margin: 0 } .curve figcaption { font-weight: 600; font-size: 14px }
.curve line { stroke: var(--line) } .curve polyline { fill: none; stroke: var(--ours); stroke-width: 2 }
.curve circle { fill: var(--ours); stroke: var(--back); stroke-width: 1.5 }
.curve text { font: 11px system-ui, sans-serif; fill: var(--soft) } .curve text.value { fill: var(--ink) }
"""


def drawn(name: str, of: Curve) -> str:
    """With its caption; a point tells its numbers when pointed at."""
    points = sorted(of.points)
    if not points:
        return ""
    step, top = _scale(max(y for _, y in points))
    places = [(_x(x, points[0][0], points[-1][0]), _y(y / top)) for x, y in points]
    parts = [_line(k * step, top) for k in range(round(top / step) + 1)]
    parts.append(f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in places)}"/>')
    parts += [_point(place, point, of) for place, point in zip(places, points, strict=True)]
    says = escape(f"{name}, {of.unit}, by {of.x}")
    return (
        f'<figure class=curve><figcaption>{escape(name)} <span class="soft">{escape(of.unit)}</span></figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{says}">{"".join(parts)}'
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 4}" text-anchor="middle">{escape(of.x)}</text>'
        "</svg></figure>"
    )


def _x(value: float, low: float, high: float) -> float:
    share = log10(value / low) / log10(high / low) if high > low else 0.5
    return LEFT + INSET + (WIDTH - LEFT - RIGHT - 2 * INSET) * share


def _y(share: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share


def _scale(highest: float) -> tuple[float, float]:
    """(distance of the grid's lines, where the uppermost stands)."""
    rough = (highest if highest > 0 else 1.0) / LINES
    size = 10.0 ** floor(log10(rough))
    step = next(size * k for k in (1, 2, 2.5, 5, 10) if size * k >= rough)
    return step, step * max(ceil(highest / step), 1)


def _line(value: float, top: float) -> str:
    y = _y(value / top)
    label = f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{short(value)}</text>'
    return f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>{label}'


def _point(place: tuple[float, float], point: tuple[float, float], of: Curve) -> str:
    (x, y), (size, value) = place, point
    says = escape(f"{short(size)} {of.x}: {value:,.4g} {of.unit}")
    return (
        f'<g><circle cx="{x:.1f}" cy="{y:.1f}" r="4"/><title>{says}</title>'
        f'<text class="value" x="{x:.1f}" y="{y - 8:.1f}" text-anchor="middle">{short(value)}</text>'
        f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{short(size)}</text></g>'
    )


def short(value: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if unit == 'k' else size):.3g} {unit}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
