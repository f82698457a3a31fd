"""CARD.md: what a person wants to know of a model version before trusting it."""

from __future__ import annotations

from onnx_models.card import ONLINE, Metadata, Recommendation
from training import plots

SIMULATED = "**Trained on simulated people. Not for decisions about real ones**: train it on your own history first."
_ROWS = ("ROC-AUC", "PR-AUC", "Brier", "Brier skill", "calibration slope", "calibration error")
_YES = ("accuracy", "precision", "recall", "F1", "precision at top 20 %")
_ALERTS = ("alerts", "alerts a year and active person", "alert precision", "alert recall")
_LISTED = 10  # inputs in the table; metadata.json has all


def card(m: Metadata) -> str:
    """The card of a model version, in Markdown; its pictures lie beside it."""
    parts = [
        [f"# {m.name} {m.version}", *(["", SIMULATED] if m.simulated else [])],
        _what(m),
        _from(m),
        _good(m),
        _trust(m),
        _missing(m),
        _gates(m),
        _not_for(m),
        _made(m),
    ]
    return "\n".join(line for part in parts for line in (*part, "")).rstrip() + "\n"


def _what(m: Metadata) -> list[str]:
    lines = [
        "## What it says",
        "",
        f"How likely `{m.outcome}` is for a {m.entity} within {m.horizon_days} days, as a probability from 0 to 1.",
    ]
    if m.alert:
        budget = f"fixed on an earlier period, to open at most {m.budget:.3g} alerts a year and active {m.entity}"
        fixed = "where it names as many as what served before" if _online(m) else budget
        lines.append(f"From {m.threshold:.3f} on it opens an alert `{m.alert}`: {fixed}.")
    else:
        lines.append(f"From {m.threshold:.3f} on it counts as a yes: the best F1 on an earlier period.")
    if m.recommendations:
        lines += ["", "| recommendation | from probability | and confidence | |", "|---|---|---|---|"]
        lines += [f"| {_named(r)} | {r.probability:g} | {r.confidence:g} | {r.reason} |" for r in m.recommendations]
    return lines


def _named(of: Recommendation) -> str:
    return f"{of.level}: {of.action}" if of.level else of.action


def _from(m: Metadata) -> list[str]:
    count = f"the {_LISTED} of {len(m.inputs)} inputs" if len(m.inputs) > _LISTED else "its inputs"
    calibrated = "" if _online(m) else ", calibrated by a sigmoid on a later slice of time"
    share = "share of the weights" if _online(m) else "share of the gain"
    rows = [
        f"| `{name}` | {part:.1%} | {_default(m, name)} | {_missing_share(m, name)} |"
        for name, part in list(m.importance.items())[:_LISTED]
    ]
    return [
        "## From what",
        "",
        f"{m.estimator.capitalize()}{calibrated}; {count} that it goes by most:",
        "",
        f"| input | {share} | where it is not known | rows in training that lacked it |",
        "|---|---|---|---|",
        *rows,
        "",
        f"![What it goes by]({plots.FILES[2]})",
    ]


def _default(m: Metadata, name: str) -> str:
    return f"{m.defaults[m.inputs.index(name)]:g}" if m.defaults else ""


def _missing_share(m: Metadata, name: str) -> str:
    return f"{m.histograms[name].missing:.1%}" if name in m.histograms else ""


def _good(m: Metadata) -> list[str]:
    alerts = ["", *_table(m, _ALERTS)] if m.alert and not _online(m) else []
    said = "On rows kept aside, with 95 % intervals from drawing people again."
    fixed = "fixed on the earlier period"
    if _online(m):
        said = "On the latest outcomes, what it said of each before it had learned it, beside what served then."
        fixed = "at which it names as many as what served"
    if m.simulated and any(name.endswith("best reachable") for name in m.metrics):
        said += " `best reachable` sees the simulation's hidden state, which no model can."
    return [
        "## How good it is",
        "",
        said,
        "",
        *_table(m, _ROWS),
        "",
        f"As a yes or no, each at a threshold {fixed} (ours: {m.threshold:.3f}):",
        "",
        *_table(m, _YES),
        *alerts,
        "",
        "Brier skill is against answering the base rate; a calibration slope below 1 says too much; the calibration",
        "error is the mean gap between what was said and what came, over ten groups of rows.",
        *(["Alerts count in episodes: a person's counts once in a cool-down."] if alerts else []),
        "",
        f"![ROC]({plots.FILES[0]}) ![Calibration]({plots.FILES[1]})",
    ]


def _online(m: Metadata) -> bool:
    return m.estimator == ONLINE


def _trust(m: Metadata) -> list[str]:
    if _online(m):
        return ["## When to trust it", "", f"![Scores]({plots.FILES[3]})"]
    rows = [f"| {b.low:g} to {b.high:g} | {b.rows:,} | {b.accuracy:.1%} | {b.brier:.4f} |" for b in m.confidence]
    return [
        "## When to trust it",
        "",
        "Confidence is how likely the likelier answer is, max(p, 1 - p), drawn towards 0.5 by the share of the",
        "importance on inputs which were not known. On rows kept aside:",
        "",
        "| confidence | rows | the likelier answer was right | Brier |",
        "|---|---|---|---|",
        *rows,
        "",
        f"![Scores]({plots.FILES[3]})",
    ]


def _missing(m: Metadata) -> list[str]:
    if not m.missing:
        return ["## When inputs are missing", "", "Each input that is not known counts as its default."]
    names = list(dict.fromkeys(name for row in m.missing.values() for name in row))
    return [
        "## When inputs are missing",
        "",
        "Each input that is not known counts as its default. With inputs left out at random:",
        "",
        "| inputs known | " + " | ".join(names) + " |",
        "|---" * (len(names) + 1) + "|",
        *[
            f"| {share} | " + " | ".join(_number(row[name]) if name in row else "" for name in names) + " |"
            for share, row in m.missing.items()
        ],
    ]


def _gates(m: Metadata) -> list[str]:
    rows = [f"| {g.name} | {g.wanted} | {_number(g.got)} | {'yes' if g.passed else '**no**'} |" for g in m.gates]
    return ["## What it had to reach", "", "| gate | expected | got | passed |", "|---|---|---|---|", *rows]


def _not_for(m: Metadata) -> list[str]:
    lines = ["## Who must not use it", ""]
    if m.simulated:
        lines.append("- Nobody may decide anything about real people by it: it has seen simulated ones alone.")
    if m.trained_on.get("time") == "none":
        lines.append(
            "- Nobody may expect these figures of later rows: its labels have no usable time, so it was judged"
        )
        lines.append("  on rows of the same period, in the order of the file.")
    lines += [
        "- Not for rows unlike those it learnt from (their distribution stands in `metadata.json`, `histograms`).",
        f"- Not as a cause: it says that {m.entity}s like this one did so, not what would move them.",
    ]
    return lines


def _made(m: Metadata) -> list[str]:
    return [
        "## How it was made",
        "",
        *[f"- {key}: {value}" for key, value in m.trained_on.items()],
        "- with " + ", ".join(f"{name} {version}" for name, version in m.packages.items()),
    ]


def _table(m: Metadata, wanted: tuple[str, ...]) -> list[str]:
    columns = [name for name in wanted if any(name in row for row in m.metrics.values())]
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for who, row in m.metrics.items():
        if set(row) & set(columns):
            lines.append(f"| {who} | " + " | ".join(_cell(m, who, name) for name in columns) + " |")
    return lines


def _cell(m: Metadata, who: str, name: str) -> str:
    if name not in m.metrics[who]:
        return ""
    ends = m.intervals.get(who, {}).get(name)
    told = f" ({_number(ends[0])} to {_number(ends[1])})" if ends else ""
    return _number(m.metrics[who][name]) + told


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
