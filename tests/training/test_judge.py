"""Figures of probabilities: as scikit-learn has them, weighed as if rows came again, with intervals by person."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics
from sklearn.linear_model import LogisticRegression

from training import judge
from training.judge import METRICS, Ranked


def made(seed: int = 1, n: int = 3000) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and scores that say a little too much; rounded, so that some are equal."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(-1.5, 1.0, n)
    label = rng.random(n) < 1 / (1 + np.exp(-odds))
    return label, np.round(1 / (1 + np.exp(-1.4 * odds)), 2)


def test_figures_are_those_of_scikit_learn() -> None:
    """Ranking, Brier score and the four figures of a yes or no."""
    label, score = made()
    ours = judge.measured(Ranked.of(label, score), 0.4)
    said = score >= 0.4
    expected = {
        "ROC-AUC": metrics.roc_auc_score(label, score),
        "PR-AUC": metrics.average_precision_score(label, score),
        "Brier": metrics.brier_score_loss(label, score),
        "accuracy": metrics.accuracy_score(label, said),
        "precision": metrics.precision_score(label, said),
        "recall": metrics.recall_score(label, said),
        "F1": metrics.f1_score(label, said),
    }
    assert {name: ours[name] for name in expected} == pytest.approx(expected, abs=1e-9)
    assert set(ours) == set(METRICS)


def test_brier_skill_is_against_the_base_rate() -> None:
    """Whoever answers the base rate has none; whoever knows has all."""
    label, _ = made()
    rate = np.full(len(label), label.mean())
    assert judge.measured(Ranked.of(label, rate), 0.5)["Brier skill"] == pytest.approx(0, abs=1e-9)
    assert judge.measured(Ranked.of(label, label.astype(float)), 0.5)["Brier skill"] == 1


def test_the_slope_is_that_of_a_logistic_regression() -> None:
    """On the score's log odds: what says too much has a slope below one."""
    label, score = made()
    clipped = np.clip(score, 1e-6, 1 - 1e-6)
    plain = LogisticRegression(C=1e9).fit(np.log(clipped / (1 - clipped))[:, None], label)
    slope = judge.measured(Ranked.of(label, score), 0.5)["calibration slope"]
    assert slope == pytest.approx(float(plain.coef_[0, 0]), rel=0.03)
    assert 0.6 < slope < 0.85


def test_the_calibration_error_is_the_mean_gap() -> None:
    """Said 0.3 of everybody of whom half had it: 0.2."""
    label = np.arange(1000) % 2 == 0
    assert judge.measured(Ranked.of(label, np.full(1000, 0.3)), 0.5)["calibration error"] == pytest.approx(0.2)


def test_precision_at_the_top_fifth() -> None:
    """Of the fifth with the highest scores."""
    label = np.arange(100) < 15
    assert judge.measured(Ranked.of(label, np.linspace(1, 0, 100)), 0.5)["precision at top 20 %"] == 0.75


def test_a_weight_counts_as_rows_that_come_again() -> None:
    """A row of weight three gives the figures of three rows, one of weight nought those of none."""
    label, score = made(n=400)
    weight = np.random.default_rng(2).integers(0, 4, 400)
    again = np.repeat(np.arange(400), weight)
    weighed = judge.measured(Ranked.of(label, score), 0.4, weight)
    repeated = judge.measured(Ranked.of(label[again], score[again]), 0.4)
    exact = set(METRICS) - {"calibration slope", "calibration error"}  # these are over groups of rows, cut otherwise
    assert {name: weighed[name] for name in exact} == pytest.approx({name: repeated[name] for name in exact})
    assert weighed["calibration error"] == pytest.approx(repeated["calibration error"], abs=0.02)


def test_intervals_know_that_rows_of_one_person_are_alike() -> None:
    """Each person's row told ten times is no better known than told once: people are drawn again, not rows."""
    label, score = made(n=300)
    person = np.arange(300)
    ten = np.repeat(person, 10)

    def width(who: np.ndarray, rows: np.ndarray) -> float:
        of = Ranked.of(label[rows], score[rows])
        low, high = judge.intervals(who, lambda w: judge.measured(of, 0.4, w), seed=1)["ROC-AUC"]
        return high - low

    once, alike, unaware = width(person, person), width(ten, ten), width(np.arange(3000), ten)
    assert alike == pytest.approx(once, rel=0.01)
    assert unaware < alike / 2


def test_intervals_hold_the_truth() -> None:
    """In about 95 of 100 samples the true Brier score lies within."""
    held = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        score = rng.random(200)
        label = rng.random(200) < score
        squared = (score - label) ** 2

        def brier(weight: np.ndarray, squared: np.ndarray = squared) -> dict[str, float]:
            return {"Brier": float(np.average(squared, weights=weight))}

        found = judge.intervals(np.arange(200), brier, seed, draws=100)
        held += found["Brier"][0] <= 1 / 6 <= found["Brier"][1]
    assert 51 <= held <= 60


def test_one_class_has_no_figures() -> None:
    """Nothing is ranked where all are alike."""
    assert judge.measured(Ranked.of(np.ones(5, bool), np.linspace(0, 1, 5)), 0.5) == {}


def test_the_best_cut() -> None:
    """The score from which on yes gives the best F1."""
    label, score = made()
    cut = judge.best_cut(label, score)
    best = max(metrics.f1_score(label, score >= c) for c in np.unique(score))
    assert metrics.f1_score(label, score >= cut) == pytest.approx(best)
