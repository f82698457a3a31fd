"""Judges a fitted model beside its rivals on rows kept aside: the serving version, a rule, a logistic regression."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import msgspec
import numpy as np

from onnx_models.session import Model
from training import evaluate, fit, judge
from training.examples import Examples
from training.fit import Fitted
from training.judge import Intervals, Metrics, Ranked
from training.model import Training
from training.people import Array
from training.splits import Slices

Scorer = Callable[[Examples], Array]
REGRESSED = 100_000  # rows for the logistic regression
OURS, SERVING, RULE, LOGISTIC, BEST = "ours", "serving version", "rule", "logistic regression", "best reachable"
_RANKS = ("ROC-AUC", "PR-AUC", "accuracy", "precision", "recall", "F1", "precision at top 20 %")  # of no probability


class Judged(msgspec.Struct, frozen=True):
    """`cuts`: each scorer's threshold; `metrics` and `intervals` by "set, who"; `scores` on later time, by who."""

    cuts: dict[str, float]
    metrics: dict[str, Metrics]
    intervals: dict[str, Intervals]
    scores: dict[str, Array]

    def later(self, who: str, slices: Slices) -> Metrics | None:
        return self.metrics.get(f"{next(iter(slices.held))}, {who}")


def judged(
    training: Training, inputs: Sequence[str], fitted: Fitted, slices: Slices, serving: Model | None = None
) -> Judged:
    """Thresholds are fixed on the slice between, for every scorer alike; intervals are those of models alone."""
    scorers = _scorers(training, inputs, fitted, slices, serving)
    cuts = {who: _cut(training, who, slices.between, scorer) for who, scorer in scorers.items()}
    metrics: dict[str, Metrics] = {}
    intervals: dict[str, Intervals] = {}
    scores = {who: scorer(slices.later) for who, scorer in scorers.items()}
    for where, rows in slices.held.items():
        for who, scorer in scorers.items():
            score = scores[who] if rows is slices.later else scorer(rows)
            measure = _measure(training, rows, score, cuts[who])
            metrics[f"{where}, {who}"] = _kept(who, measure(None) | _alerts(training, rows, score, cuts[who]))
            if who in (OURS, SERVING):
                intervals[f"{where}, {who}"] = judge.intervals(rows.person, measure, training.seed)
    return Judged(cuts, metrics, intervals, scores)


def _scorers(
    training: Training, inputs: Sequence[str], fitted: Fitted, slices: Slices, serving: Model | None
) -> dict[str, Scorer]:
    found: dict[str, Scorer] = {OURS: lambda of: fitted.calibrated(of.features)}
    if serving:
        found[SERVING] = lambda of: serving.score(of.features).astype(np.float64)
    if slices.later.best is not None and slices.between.best is not None:
        found[BEST] = lambda of: np.zeros(len(of)) if of.best is None else of.best
    if training.rule:
        found[RULE] = lambda of: rule(training, inputs, of.features)
    return found | {LOGISTIC: _logistic(slices.train)}


def rule(training: Training, inputs: Sequence[str], features: Array) -> Array:
    """Points of the hand-written rule, brought to 0-1: none are one half, ten are three quarters."""
    column = {name: i for i, name in enumerate(inputs)}
    points = sum(weight * features[:, column[name]].astype(np.float64) for name, weight in training.rule.items())
    return np.asarray(0.5 + 0.5 * points / (np.abs(points) + 10.0), np.float64)


def _logistic(train: Examples) -> Scorer:
    some = train.those(np.arange(0, len(train), -(-len(train) // REGRESSED)))
    found = fit.logistic(some.features, some.label)
    return lambda of: np.asarray(found.predict_proba(of.features)[:, 1], np.float64)


def _cut(training: Training, who: str, early: Examples, scorer: Scorer) -> float:
    """Of a model that alerts: the least that keeps the budget; else the one of the best F1."""
    score = scorer(early)
    if not training.budget:
        return round(judge.best_cut(early.label, score), 4)
    least = training.least if who in (OURS, SERVING) else 0.0  # a rival that is no probability may spend it below
    return evaluate.threshold(early.scored(score, training.horizon_days), training.budget, least)


def _measure(training: Training, rows: Examples, score: Array, cut: float) -> Callable[[Array | None], Metrics]:
    ranked = Ranked.of(rows.label, score)
    opened = _opened(training, rows, score, cut)
    return partial(_weighed, ranked, cut, opened, rows.label)


def _weighed(ranked: Ranked, cut: float, opened: Array, label: Array, weight: Array | None) -> Metrics:
    found = judge.measured(ranked, cut, weight)
    if len(opened) and weight is not None and weight[opened].any():
        found["alert precision"] = float(np.average(label[opened], weights=weight[opened]))
    return found


def _opened(training: Training, rows: Examples, score: Array, cut: float) -> Array:
    """Rows that would have opened an alert: indices; none of a model that opens none."""
    if not training.budget:
        return np.zeros(0, np.int64)
    return np.flatnonzero(evaluate.alerts(rows.scored(score, training.horizon_days), cut))


def _alerts(training: Training, rows: Examples, score: Array, cut: float) -> Metrics:
    if not training.budget:
        return {}
    return evaluate.alert_metrics(rows.scored(score, training.horizon_days), rows.label, cut)


def _kept(who: str, found: Metrics) -> Metrics:
    """Finite ones; of the rule, which is no probability, only how it ranks."""
    wanted = {n for n in found if n in _RANKS or n.startswith("alert")} if who == RULE else set(found)
    return {name: value for name, value in found.items() if name in wanted and np.isfinite(value)}


def together(metrics: list[dict[str, Metrics]]) -> dict[str, Metrics]:
    """The alerts of several models counted as one: how many, and which share was right."""
    found = {}
    for name in metrics[0]:
        rows = [each[name] for each in metrics if "alerts" in each.get(name, {})]
        if not rows:
            continue
        total = sum(row["alerts"] for row in rows)
        spent = sum(row["alerts a year and active person"] for row in rows)
        found[name] = {"alerts": total, "alerts a year and active person": spent}
        if total:
            found[name]["alert precision"] = (
                sum(row.get("alert precision", 0.0) * row["alerts"] for row in rows) / total
            )
    return found
