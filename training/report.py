"""Makes one model within a study and judges it: against the best that is reachable, a rule, a logistic regression."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np

from flows.alert import MIN_CONFIDENCE
from training import evaluate, fit
from training.model import Training
from training.people import Array
from training.study import Sample, Study

Scorer = Callable[[Sample], Array]
REGRESSED = 100_000  # rows for the logistic regression


class Made(msgspec.Struct, frozen=True):
    """A fitted model, its threshold, and how it and its rivals did: {"set, who": {metric: value}}."""

    fitted: fit.Fitted
    threshold: float
    metrics: dict[str, dict[str, float]]


def make(training: Training, outcome: str, inputs: Array, study: Study) -> Made:
    """`inputs`: columns of the features that the service lists."""
    label = study.train.label(outcome, training.horizon_days)
    booster = fit.grow(training.candidates[0], study.train.rows.features[:, inputs], label, training.seed)
    early = study.earlier.label(outcome, training.horizon_days)
    fitted = fit.calibrate(booster, study.earlier.rows.features[:, inputs], early)
    scorers: dict[str, Scorer] = {
        "ours": lambda of: fitted.calibrated(of.rows.features[:, inputs]),
        "best reachable": lambda of: of.best(outcome, training.horizon_days),
        "rule": lambda of: rule(training, of),
        "logistic regression": _logistic(study.train.rows.features[:, inputs], label, inputs),
    }
    floor = {"ours": MIN_CONFIDENCE}  # a rival that is no probability may spend its budget below it
    cuts = {name: _threshold(training, study.earlier, scorer, floor.get(name, 0.0)) for name, scorer in scorers.items()}
    metrics = {
        f"{where}, {name}": _judge(training, outcome, sample, scorer(sample), cuts[name])
        for where, sample in study.judged.items()
        for name, scorer in scorers.items()
    }
    for where, sample in study.judged.items():
        metrics[f"{where}, ours"]["Brier"] = _brier(training, outcome, sample, scorers["ours"](sample))
    return Made(fitted, cuts["ours"], metrics)


def rule(training: Training, of: Sample) -> Array:
    """Points of the hand-written rule, brought to 0-1: ten points are one half."""
    column = of.vocabulary.feature_index
    points = sum(weight * of.rows.features[:, column[name]] for name, weight in training.rule.items())
    return np.asarray(points / (points + 10.0), np.float64)


def _logistic(features: Array, label: Array, inputs: Array) -> Scorer:
    some = slice(None, None, -(-len(label) // REGRESSED))
    found = fit.logistic(features[some], label[some])
    return lambda of: np.asarray(found.predict_proba(of.rows.features[:, inputs])[:, 1])


def _threshold(training: Training, of: Sample, scorer: Scorer, least: float) -> float:
    return evaluate.threshold(of.scored(scorer(of)), training.budget, least)


def _judge(training: Training, outcome: str, of: Sample, score: Array, cut: float) -> dict[str, float]:
    label = of.label(outcome, training.horizon_days)
    return evaluate.row_metrics(label, score) | evaluate.alert_metrics(of.scored(score), label, cut)


def _brier(training: Training, outcome: str, of: Sample, score: Array) -> float:
    return float(np.mean((score - of.label(outcome, training.horizon_days)) ** 2))


def together(metrics: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """The alerts of several models counted as one: how many, and which share was right."""
    found = {}
    for name in metrics[0]:
        rows = [each[name] for each in metrics]
        total = sum(row["alerts"] for row in rows)
        spent = sum(row["alerts a year and active person"] for row in rows)
        found[name] = {"alerts": total, "alerts a year and active person": spent}
        if total:
            found[name]["precision"] = sum(row.get("precision", 0.0) * row["alerts"] for row in rows) / total
    return found
