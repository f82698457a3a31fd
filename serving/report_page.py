"""A feature report as one page of plain HTML, with nothing from outside and no script."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from serving import charts
from serving.charts import number, share
from serving.distribution import FEW
from serving.feature_report import FeatureReport, Freshness, Report, ViewReport

SOME, MUCH = 0.1, 0.25  # of PSI: what has moved a little, what has moved much
SHOWN = 12  # drifted features named at the top
GAP = 0.05  # share of values missing that is worth a look
STYLE = """
:root { --ink: #1c2330; --soft: #667085; --line: #e4e7ec; --back: #fff; --card: #f7f8fa; --bar: #3b6fd4; --was: #b6bfcd;
 --good: #18794e; --fair: #9a6700; --bad: #c0292b }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --soft: #98a2b3; --line: #2b313c; --back: #14171d;
 --card: #1c2129; --bar: #6f9bf0; --was: #566173; --good: #4cc38a; --fair: #e2b23c; --bad: #ff7b72 } }
* { box-sizing: border-box }
body { font: 15px/1.45 system-ui, sans-serif; margin: 0 auto; padding: 2rem; max-width: 92rem; color: var(--ink);
 background: var(--back) }
h1 { font-size: 1.6rem; margin: 0 } h2 { font-size: 1.2rem; margin: 2.5rem 0 .2rem }
p { margin: .3rem 0 } .soft, th { color: var(--soft) } a { color: var(--bar); text-decoration: none }
code { font: 13px/1.4 ui-monospace, monospace }
.tiles { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1.2rem 0 }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .7rem 1rem;
 min-width: 9rem }
.tile b { display: block; font-size: 1.5rem; font-weight: 600 }
table { border-collapse: collapse; width: 100%; margin-top: .6rem }
th { text-align: left; font-weight: 500; font-size: 13px; position: sticky; top: 0; background: var(--back) }
th, td { padding: .45rem .7rem .45rem 0; vertical-align: middle; border-bottom: 1px solid var(--line) }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
td.name { max-width: 24rem } td.name small { display: block; color: var(--soft) }
td:target, tr:target { background: var(--card) }
.chip { display: inline-block; font-size: 12px; border: 1px solid var(--line); border-radius: 9px; padding: 0 .5em;
 margin: 1px 2px 1px 0; white-space: nowrap }
.good { color: var(--good) } .fair { color: var(--fair) } .bad { color: var(--bad) } .fair, .bad { font-weight: 600 }
svg { display: block } svg .now { fill: var(--bar) } svg .was { fill: var(--was) } svg line { stroke: var(--line) }
svg text { font: 10px system-ui, sans-serif; fill: var(--soft) }
"""


def page(report: Report) -> str:
    """The whole page."""
    head = '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    size = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    return "\n".join(
        [
            f"{head}{size}<title>Features</title><style>{STYLE}</style></head><body>",
            f"<h1>Features</h1><p class=soft>as of {report.at:%Y-%m-%d %H:%M:%S} UTC ({report.clock} clock). ",
            f"Drift compares {escape(report.reference)}.</p>",
            *_tiles(report),
            *_worth_a_look(report),
            *(part for view in report.views for part in _view(view)),
            *_legend(),
            "</body></html>",
        ]
    )


def _all(report: Report) -> list[tuple[ViewReport, FeatureReport]]:
    return [(view, feature) for view in report.views for feature in view.features]


def _tiles(report: Report) -> Iterator[str]:
    told = [feature.drift.psi for _, feature in _all(report) if feature.drift]
    gaps = sum(view.present > 0 and feature.distribution.missing > GAP for view, feature in _all(report))
    moved = sum(psi > MUCH for psi in told)
    ages = [(view.freshness.expired, view.about.name) for view in report.views if view.freshness]
    worst, where = max(ages, default=(0.0, "nothing written"))
    yield "<div class=tiles>"
    yield _tile(f"{len(_all(report))}", f"features in {len(report.views)} views")
    yield _tile(f"{max(view.sampled for view in report.views):,}", "entities looked at, at most")
    yield _tile(f"{gaps}", f"with more than {GAP:.0%} missing", "fair" if gaps else "good")
    yield _tile(f"{moved}" if told else "–", "drifted much (PSI)", "bad" if moved else "good" if told else "")
    yield _tile(share(worst), f"expired at most ({escape(where)})", "bad" if worst > GAP else "good")
    yield "</div>"


def _tile(value: str, says: str, grade: str = "") -> str:
    return f'<div class=tile><b class="{grade}">{value}</b><span class=soft>{says}</span></div>'


def _worth_a_look(report: Report) -> Iterator[str]:
    drifted = sorted(
        ((f.drift.psi, v, f) for v, f in _all(report) if f.drift and f.drift.psi > SOME), key=lambda found: -found[0]
    )
    links = [
        f'<a href="#{_anchor(v, f)}">{escape(f.about.name)}</a> <span class="{_grade(psi)}">{psi:.2f}</span>'
        for psi, v, f in drifted[:SHOWN]
    ]
    more = f" and {len(drifted) - SHOWN} more" if len(drifted) > SHOWN else ""
    if links:
        yield f"<p><b>Drifted:</b> {', '.join(links)}{more}</p>"


def _anchor(view: ViewReport, feature: FeatureReport) -> str:
    return escape(f"{view.about.name}.{feature.about.name}")


def _view(view: ViewReport) -> Iterator[str]:
    about = view.about
    writer = f"pushed to <code>{escape(about.push_source)}</code>" if about.push_source else "written by the stream"
    yield f"<h2>{escape(about.name)}</h2><p>{escape(about.description)}</p>"
    yield f"<p class=soft>entity {escape(about.entity)}, key <code>{escape(about.join_key)}</code>, {writer}, "
    yield f"owner {escape(about.owner)}, valid for {about.ttl_days} days. "
    if not view.present:
        yield f"None of the {view.sampled:,} entities looked at has a row.</p>"
    else:
        yield f"{view.present:,} of {view.sampled:,} entities looked at have a row{_ages(view.freshness)}.</p>"
    yield "<table><thead><tr><th>feature<th>distribution<th class=n>missing<th class=n>mean<th class=n>median"
    yield "<th class=n>99 %<th class=n>age<th>drift<th>used by<th>declared</tr></thead><tbody>"
    for feature in view.features:
        yield _row(view, feature)
    yield "</tbody></table>"


def _ages(freshness: Freshness | None) -> str:
    if freshness is None:
        return ""
    ages = f"median age {charts.age(freshness.median)}, 95 % within {charts.age(freshness.p95)}"
    return f"; {ages}, oldest {charts.age(freshness.oldest)}; {share(freshness.expired)} expired"


def _row(view: ViewReport, feature: FeatureReport) -> str:
    about, told = feature.about, feature.distribution
    gap = "fair" if view.present and told.missing > GAP else ""
    means = f" ({', '.join(filter(None, (about.unit, about.window)))})"
    cells = [
        f"<td class=name><b>{escape(about.name)}</b><small>{escape(about.description + means)}</small>",
        f"<td>{charts.distribution(told)}",
        f'<td class="n {gap}">{share(told.missing)}{_was_missing(feature)}',
        *(f"<td class=n>{number(n)}" for n in (told.mean, told.quantiles.get("p50"), told.quantiles.get("p99"))),
        f"<td class=n>{charts.age(feature.freshness.median) if feature.freshness else '–'}",
        f"<td>{_drift(feature)}",
        f"<td>{_users(feature)}",
        f"<td><code>{escape(about.defined).replace('/', '/<wbr>')}</code>",
    ]
    return f'<tr id="{_anchor(view, feature)}">' + "".join(cells) + "</tr>"


def _was_missing(feature: FeatureReport) -> str:
    told = feature.drift
    if told is None or abs(told.missing_after - told.missing_before) <= GAP:
        return ""
    return f"<br><small>{share(told.missing_before)} to {share(told.missing_after)}</small>"


def _drift(feature: FeatureReport) -> str:
    if feature.drift is None:
        return "<span class=soft>–</span>"
    psi = feature.drift.psi
    return f'{charts.drift(feature.drift)}<span class="{_grade(psi)}">{psi:.3f}</span>'


def _grade(psi: float) -> str:
    return "bad" if psi > MUCH else "fair" if psi > SOME else "good"


def _users(feature: FeatureReport) -> str:
    newest = {model.partition("/")[0]: model for model in feature.models}
    chips = (
        f'<span class=chip title="{escape(newest.get(name, "no model yet"))}">{escape(name)}</span>'
        for name in feature.about.services
    )
    return "".join(chips) or "<span class=soft>nobody</span>"


def _legend() -> Iterator[str]:
    yield "<h2>How to read this</h2><p class=soft>Distribution: heights are square roots of counts, so that rare values"
    yield "show; the last bar also holds what lies beyond. Missing: of all entities looked at. Age: of the values, by"
    yield "the store's time. Drift: population stability index over bins that each held a tenth of the earlier values"
    yield f"(grey: then, blue: since). Below {SOME} little has moved, above {MUCH} much; – is: fewer than {FEW} values"
    yield "are known, then or now. Of what was served the lake keeps a share of people: TELLTALE_LAKE_FEATURES.</p>"
