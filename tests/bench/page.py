"""Reports of benchmarks as one page of plain HTML: each figure with its spread, and a bar beside those of its peers.

Nothing is fetched, nothing is a script. At its top stands how far ahead of each peer we are, or behind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from math import log10

import msgspec

from tests.bench import curves, flame_picture
from tests.bench.result import Failed, Figure, Report

STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --soft: #667085; --line: #e4e7ec; --back: #fff; --card: #f7f8fa;
 --ours: #3b6fd4; --theirs: #b6bfcd; --bad: #c0292b; --good: #18794e; --room: #9dbcf5; --library: #f3cf8e;
 --native: #d3d8e0; --on-frame: #10141c }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --soft: #98a2b3; --line: #2b313c; --back: #14171d;
 --card: #1c2129; --ours: #6f9bf0; --theirs: #566173; --bad: #ff7b72; --good: #4cc38a; --room: #2f5597;
 --library: #7a5a1c; --native: #3a4250; --on-frame: #f2f4f8 } }
* { box-sizing: border-box }
body { font: 15px/1.45 system-ui, sans-serif; margin: 0 auto; padding: 2rem; max-width: 76rem; color: var(--ink);
 background: var(--back) }
h1 { font-size: 1.6rem; margin: 0 } h2 { font-size: 1.2rem; margin: 2.6rem 0 .2rem } p { margin: .4rem 0 }
h2 small { font-weight: 400; font-size: 13px; color: var(--soft); margin-left: .5rem } .soft { color: var(--soft) }
a { color: var(--ours); text-decoration: none } nav { display: flex; flex-wrap: wrap; gap: .2rem 1rem; margin: 1rem 0 }
.about { max-width: 60rem; white-space: pre-line } .warn { border-left: 3px solid var(--bad); padding-left: .7rem }
.wide { overflow-x: auto } table { border-collapse: collapse; width: 100%; margin-top: .5rem }
td, th { padding: .28rem .8rem .28rem 0; border-bottom: 1px solid var(--line); text-align: left; font-weight: 400 }
td.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap } th { width: 24rem }
th i { font-style: normal; color: var(--soft) } tr.theirs th { padding-left: 1.2rem; color: var(--soft) }
td.bar { width: 250px } td.beside { white-space: nowrap } code { font: 13px ui-monospace, monospace }
svg { display: block } rect { fill: var(--theirs) } rect.ours { fill: var(--ours) } rect.behind { fill: var(--bad) }
.bad { color: var(--bad); font-weight: 600 } .good { color: var(--good) }
details { color: var(--soft); font-size: 13px; margin-top: .4rem } summary { cursor: pointer }
.standing line { stroke: var(--line) } .standing line.even { stroke: var(--ink) }
.standing text { font: 12px system-ui, sans-serif; fill: var(--ink) } .standing text.soft { fill: var(--soft) }
.standing { width: 100%; height: auto; margin-top: .6rem }
"""
BAR = 240  # pixels of the longest
MARKS = {"higher": ("↑", "higher is better"), "lower": ("↓", "lower is better"), "": ("", "")}


class Beside(msgspec.Struct):
    """One figure of ours beside a peer's: `factor` above 1 is ahead."""

    bench: str
    figure: str
    peer: str
    factor: float


def page(reports: Sequence[Report | Failed]) -> str:
    """The whole page."""
    measured = [report for report in reports if isinstance(report, Report)]
    machines = {", ".join(f"{k}: {v}" for k, v in report.machine.items()) for report in measured}
    commits = dict.fromkeys(report.commit for report in measured if report.commit)
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1"><title>Benchmarks</title>',
            f"<style>{STYLE}{curves.STYLE}{flame_picture.STYLE}</style></head><body><h1>Benchmarks</h1>",
            *(f"<p class=soft>{escape(machine)}</p>" for machine in sorted(machines)),
            *([f"<p class=soft>commit {escape(', '.join(commits))}</p>"] if commits else []),
            *_warnings(reports),
            "<p class=soft>Median of the runs, and what they lie between. ↑ higher is better, ↓ lower is better. ",
            "Ours in blue, what a user would pick instead in grey, measured in the same run.</p>",
            *_standing([each for report in measured for each in besides(report)]),
            "<nav>" + " ".join(f'<a href="#{escape(r.bench)}">{escape(r.bench)}</a>' for r in reports) + "</nav>",
            *(part for report in reports for part in _bench(report)),
            "</body></html>",
        ]
    )


def _warnings(reports: Sequence[Report | Failed]) -> Iterator[str]:
    if any(isinstance(report, Report) and report.quick for report in reports):
        yield '<p class="warn"><b>A quick run:</b> one short run of each, so the figures are rough and without spread.'
        yield "Run <code>make bench</code> for those that count.</p>"
    if failed := [report.bench for report in reports if isinstance(report, Failed)]:
        yield f'<p class="warn bad">failed: {escape(", ".join(failed))}</p>'


def besides(report: Report) -> Iterator[Beside]:
    """Every figure of which one way is good, beside each peer that has it too."""
    for name, figure in report.figures.items():
        for peer, figures in report.peers.items():
            theirs = figures.get(name)
            if theirs and figure.better and figure.median > 0 and theirs.median > 0:
                yield Beside(report.bench, name, peer, _factor(figure, theirs))


def _factor(ours: Figure, theirs: Figure) -> float:
    return ours.median / theirs.median if ours.better == "higher" else theirs.median / ours.median


def _standing(all_: Sequence[Beside]) -> Iterator[str]:
    """A picture of all of them, the furthest ahead first, on a logarithmic scale about 1."""
    if not all_:
        return
    shown = sorted(all_, key=lambda each: -each.factor)
    left, right, row = 330, 60, 22
    low, high = min(0.5, shown[-1].factor), max(2.0, shown[0].factor)
    height, width = row * len(shown) + 24, 1000

    def x(factor: float) -> float:
        return left + (width - left - right) * log10(factor / low) / log10(high / low)

    yield "<h2>Beside what one would pick instead</h2><p class=soft>How many times as good as the peer, in the figure"
    yield "named; red is where we are behind.</p>"
    yield f'<svg class="standing" viewBox="0 0 {width} {height}" role="img" aria-label="ours beside each peer">'
    for tick in [t for t in (0.01, 0.1, 0.5, 1, 2, 5, 10, 20, 50, 100, 1000) if low <= t <= high]:
        kind = "even" if tick == 1 else ""
        yield f'<line class="{kind}" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="0" y2="{height - 18}"/>'
        yield f'<text class="soft" x="{x(tick):.1f}" y="{height - 4}" text-anchor="middle">{tick:g} ×</text>'
    for i, each in enumerate(shown):
        begin, end = sorted((x(1.0), x(each.factor)))
        kind = "ours" if each.factor >= 1 else "behind"
        says = escape(f"{each.bench}: {each.figure} beside {each.peer}")
        yield f'<g><title>{says}</title><text x="0" y="{i * row + 15}">{escape(each.bench)}: {escape(each.peer)}'
        yield f'<tspan class="soft" fill="var(--soft)"> {escape(each.figure)}</tspan></text>'
        yield f'<rect class="{kind}" x="{begin:.1f}" y="{i * row + 4}" width="{end - begin:.1f}" height="14" rx="2"/>'
        yield f'<text x="{end + 6:.1f}" y="{i * row + 15}">{each.factor:.3g} ×</text></g>'
    yield "</svg>"


def _bench(report: Report | Failed) -> Iterator[str]:
    if isinstance(report, Failed):
        yield f'<h2 id="{escape(report.bench)}">{escape(report.bench)}</h2>'
        yield f'<p class="bad">failed: {escape(report.why)}</p>'
        return
    took = f"{report.seconds:,.0f} s" + (", a quick run" if report.quick else "")
    yield f'<h2 id="{escape(report.bench)}">{escape(report.bench)} <small>{took}</small></h2>'
    yield f'<p class="about soft">{_text(report.about)}</p>'
    for peer, why in report.skipped.items():
        yield f'<p class="bad">without {escape(peer)}: {escape(why)}</p>'
    if report.curves:
        drawn = (curves.drawn(name, curve) for name, curve in report.curves.items())
        yield f"<div class=curves>{''.join(drawn)}</div>"
    if report.stacks:
        yield flame_picture.drawn(report.stacks)
    yield "<div class=wide><table>"
    yield from _rows(report)
    yield "</table></div>"
    yield from _versions(report.versions)


def _text(about: str) -> str:
    """Paragraphs, whose lines run on."""
    return "\n\n".join(" ".join(part.split()) for part in escape(about).replace("`", "").split("\n\n"))


def _rows(report: Report) -> Iterator[str]:
    for name, figure in report.figures.items():
        peers = {peer: figures[name] for peer, figures in report.peers.items() if name in figures}
        highest = max([figure.median, *(each.median for each in peers.values())])
        ahead = [peer for peer, theirs in peers.items() if _loses(figure, theirs)]
        says = f'<span class="bad">behind {escape(", ".join(ahead))}</span>' if ahead else _own(name, figure)
        yield _row(name, figure, _bar(figure.median, highest, ours=True) if peers else "", says, ours=True)
        for peer, theirs in peers.items():
            yield _row(peer, theirs, _bar(theirs.median, highest, ours=False), _beside(figure, theirs), ours=False)
    for peer, figures in report.peers.items():
        for name, figure in figures.items():
            if name not in report.figures:
                yield _row(f"{peer}: {name}", figure, "", "", ours=False)


def _own(name: str, figure: Figure) -> str:
    """Of a ratio to a peer, where it says that we are behind."""
    behind = name.startswith("ratio_") or "_ratio_" in name
    return '<span class="bad">behind</span>' if behind and figure.better == "higher" and figure.median < 1 else ""


def _loses(ours: Figure, theirs: Figure) -> bool:
    return (
        bool(ours.better) and ours.median != theirs.median and (ours.median > theirs.median) == (ours.better == "lower")
    )


def _beside(ours: Figure, theirs: Figure) -> str:
    """How many times as good ours is, in words; that it is not certain, where the runs of both overlap."""
    if not ours.better or not ours.median > 0 or not theirs.median > 0:
        return ""
    factor = _factor(ours, theirs)
    word = {"higher": ("more", "less"), "lower": ("less", "more")}[ours.better][factor < 1]
    unsure = ", runs overlap" if ours.min <= theirs.max and theirs.min <= ours.max else ""
    kind = "bad" if factor < 1 else "good"
    return f'<span class="{kind}">ours {max(factor, 1 / factor):.3g} × {word}</span>{unsure}'


def _row(name: str, figure: Figure, bar: str, says: str, *, ours: bool) -> str:
    spread = "" if figure.min == figure.max else f"{_number(figure.min)} – {_number(figure.max)}"
    mark, means = MARKS[figure.better]
    arrow = f' <i title="{means}">{mark}</i>' if mark and ours else ""
    return (
        f'<tr class="{"ours" if ours else "theirs"}"><th>{escape(name)}{arrow}</th>'
        f"<td class=n>{_number(figure.median)} {escape(figure.unit)}</td><td class='n soft'>{spread}</td>"
        f"<td class=bar>{bar}</td><td class=beside>{says}</td></tr>"
    )


def _bar(value: float, highest: float, *, ours: bool) -> str:
    kind = ' class="ours"' if ours else ""
    width = max(value / highest * BAR, 1.0) if highest > 0 else 1.0
    return (
        f'<svg width="{BAR}" height="12" aria-hidden="true"><rect{kind} width="{width:.1f}" height="12" rx="2"/></svg>'
    )


def _versions(of: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    if of:
        yield "<details><summary>versions</summary>"
        for owner, packages in of.items():
            told = ", ".join(f"{name} {version}" for name, version in packages.items())
            yield f"<p>{escape(owner)}: {escape(told)}</p>"
        yield "</details>"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
