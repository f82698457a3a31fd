"""Reports of benchmarks as one page of plain HTML: each figure with its spread, and a bar beside those of its peers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from tests.bench.result import Failed, Figure, Report

STYLE = """
:root { --ink: #1c2330; --soft: #667085; --line: #e4e7ec; --back: #fff; --ours: #3b6fd4; --theirs: #b6bfcd;
 --bad: #c0292b }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --soft: #98a2b3; --line: #2b313c; --back: #14171d;
 --ours: #6f9bf0; --theirs: #566173; --bad: #ff7b72 } }
body { font: 15px/1.45 system-ui, sans-serif; margin: 0 auto; padding: 2rem; max-width: 70rem; color: var(--ink);
 background: var(--back) }
h1 { font-size: 1.6rem; margin: 0 } h2 { font-size: 1.1rem; margin: 2rem 0 0 } .soft { color: var(--soft) }
table { border-collapse: collapse; width: 100%; margin-top: .3rem }
td, th { padding: .3rem .7rem .3rem 0; border-bottom: 1px solid var(--line); text-align: left; font-weight: 400 }
td.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap } th { width: 22rem }
svg { display: block } rect { fill: var(--theirs) } rect.ours { fill: var(--ours) } .bad { color: var(--bad) }
"""
WIDTH = 240  # of the longest bar


def page(reports: Sequence[Report | Failed]) -> str:
    """The whole page."""
    measured = [report for report in reports if isinstance(report, Report)]
    machines = {", ".join(f"{k}: {v}" for k, v in r.machine.items()) + f"; commit {r.commit}" for r in measured}
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>Benchmarks</title><style>{STYLE}</style></head><body><h1>Benchmarks</h1>",
            *(f"<p class=soft>{escape(machine)}</p>" for machine in sorted(machines)),
            "<p class=soft>Median of the runs, and what they lie between. Ours in blue, its peers in grey.</p>",
            *(part for report in reports for part in _bench(report)),
            "</body></html>",
        ]
    )


def _bench(report: Report | Failed) -> Iterator[str]:
    yield f"<h2>{escape(report.bench)}</h2>"
    if isinstance(report, Failed):
        yield f'<p class="bad">failed: {escape(report.why)}</p>'
        return
    yield "<table>"
    for name, figure in report.figures.items():
        peers = {peer: figures[name] for peer, figures in report.peers.items() if name in figures}
        highest = max([figure.median, *(each.median for each in peers.values())])
        yield _row(name, figure, highest, ours=True, bar=bool(peers))
        for peer, theirs in peers.items():
            yield _row(f"{name}, {peer}", theirs, highest, ours=False, bar=True)
    for peer, figures in report.peers.items():
        for name, figure in figures.items():
            if name not in report.figures:
                yield _row(f"{name}, {peer}", figure, figure.median, ours=False, bar=False)
    yield "</table>"


def _row(name: str, figure: Figure, highest: float, *, ours: bool, bar: bool) -> str:
    spread = "" if figure.min == figure.max else f"{_number(figure.min)} – {_number(figure.max)}"
    drawn = _bar(figure.median / highest if highest > 0 else 0.0, ours=ours) if bar else ""
    value = f"{_number(figure.median)} {escape(figure.unit)}"
    return f"<tr><th>{escape(name)}</th><td class=n>{value}</td><td class='n soft'>{spread}</td><td>{drawn}</td></tr>"


def _bar(share: float, *, ours: bool) -> str:
    kind = ' class="ours"' if ours else ""
    return f'<svg width="{WIDTH}" height="12" role="img"><rect{kind} width="{share * WIDTH:.1f}" height="12"/></svg>'


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
