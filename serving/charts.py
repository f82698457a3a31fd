"""Small drawings (SVG) and numbers for a report's cells."""

from __future__ import annotations

from html import escape
from math import ceil, sqrt

from serving.distribution import Distribution, Drift

WIDTH, HEIGHT = 168, 34
DRIFT_WIDTH = 96


def distribution(told: Distribution) -> str:
    """A histogram with its ends named; of texts the most frequent."""
    if told.bins.names:
        ranked = sorted(zip(told.bins.shares, told.bins.names, strict=False), reverse=True)[:3]
        return ", ".join(f"{escape(name)} {share(part)}" for part, name in ranked)
    if told.histogram is None:
        return "<span class=soft>no values</span>"
    edges, counts = told.histogram.edges, told.histogram.counts
    step, highest = WIDTH / len(counts), max(counts)
    bars = "".join(
        _bar(i * step, step, HEIGHT * sqrt(count / highest), "now", f"{number(low)} to {number(high)}: {count:,}")
        for i, (count, low, high) in enumerate(zip(counts, edges, edges[1:], strict=False))
        if count
    )
    low, high = number(told.quantiles["min"]), number(told.quantiles["max"])
    tail = ceil(edges[-2]) if edges[0] % 1 == 0.5 else edges[-2]  # bars of whole numbers begin half a one before
    cut = f"{number(tail)}+, max " if told.quantiles["max"] > edges[-1] else ""
    return (
        f'<svg width="{WIDTH}" height="{HEIGHT + 13}" role="img" aria-label="from {low} to {high}">{bars}'
        f'<line x1="0" x2="{WIDTH}" y1="{HEIGHT + 0.5}" y2="{HEIGHT + 0.5}"/>'
        f'<text x="0" y="{HEIGHT + 12}">{low}</text>'
        f'<text x="{WIDTH}" y="{HEIGHT + 12}" text-anchor="end">{cut}{high}</text></svg>'
    )


def drift(told: Drift) -> str:
    """Shares of each bin, then and since, side by side."""
    step, highest = DRIFT_WIDTH / len(told.before), max(*told.before, *told.after)
    bars = "".join(
        _bar(i * step + offset * step / 2, step / 2, HEIGHT * 0.8 * part / highest, kind, share(part), HEIGHT * 0.8)
        for i, parts in enumerate(zip(told.before, told.after, strict=True))
        for offset, (kind, part) in enumerate(zip(("was", "now"), parts, strict=True))
        if part
    )
    return f'<svg width="{DRIFT_WIDTH}" height="{HEIGHT * 0.8:.0f}" role="img" aria-label="then and since">{bars}</svg>'


def _bar(x: float, width: float, height: float, kind: str, says: str, bottom: float = HEIGHT) -> str:
    shape = (
        f'x="{x:.1f}" y="{bottom - max(height, 1):.1f}" width="{max(width - 0.8, 1):.1f}" height="{max(height, 1):.1f}"'
    )
    return f'<rect class="{kind}" {shape}><title>{escape(says)}</title></rect>'


def number(value: float | None) -> str:
    """Three digits that matter, large ones in thousands and millions."""
    if value is None:
        return "–"
    for size, name in ((1e9, " G"), (1e6, " M"), (1e4, " k")):
        if abs(value) >= size:
            return f"{value / (1e3 if name == ' k' else size):.3g}{name}"
    return f"{value:.4g}" if abs(value) >= 1000 else f"{value:.3g}"


def share(part: float) -> str:
    """A percentage; what is not quite nothing, or all, does not look so."""
    if 0 < part < 0.001:
        return "< 0.1 %"
    return "> 99.9 %" if 0.999 < part < 1 else f"{part * 100:.3g} %"


def age(hours: float) -> str:
    for size, name in ((48, "d"), (1, "h"), (1 / 60, "min")):
        if hours >= size:
            return f"{hours / (24 if name == 'd' else size):.3g} {name}"
    return f"{hours * 3600:.2g} s"
