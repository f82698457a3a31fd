"""How good scores are: over rows, and as the alerts that they would have opened, one after another in time."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from flows.alert import MIN_CONFIDENCE
from flows.episodes import closes, fires
from training.people import YEAR, Array
from training.records import DAY


def row_metrics(label: Array, score: Array) -> dict[str, float]:
    """Over rows at scoring instants; `brier` only says something of probabilities."""
    found = {"AUC": roc_auc_score(label, score), "average precision": average_precision_score(label, score)}
    if score.min() >= 0 and score.max() <= 1:
        found["Brier"] = brier_score_loss(label, score)
    return {name: float(value) for name, value in found.items()}


def alerts(person: Array, at: Array, score: Array, threshold: float, cooldown_days: int = 30) -> Array:
    """Which rows would have opened an alert: (n,) bool. Rows sorted by person, then time; causal.

    The same `fires` and `closes` as in the stream; only the stream's demand of confident signals is not made here.
    """
    nth = np.arange(len(person)) - np.searchsorted(person, person)
    opened = np.zeros(int(person.max(initial=0)) + 1, np.int64)
    open_ = np.zeros(len(opened), np.int64)
    out = np.zeros(len(person), bool)
    interesting = np.flatnonzero(_may_matter(person, score, threshold))
    for rows in np.split(interesting[np.argsort(nth[interesting], kind="stable")], _cuts(nth[interesting])):
        who = person[rows]
        fire = fires(score[rows], threshold, opened[who], open_[who], at[rows], cooldown_days)
        open_[who[closes(score[rows], threshold, open_[who])]] = 0
        opened[who[fire]] = at[rows][fire]
        open_[who[fire]] = 1
        out[rows] = fire
    return out


def _may_matter(person: Array, score: Array, threshold: float) -> Array:
    """Rows of people who reach the threshold at all."""
    reached = np.zeros(int(person.max(initial=0)) + 1, bool)
    reached[person[score >= threshold]] = True
    return reached[person]


def _cuts(nth: Array) -> Array:
    ordered = np.sort(nth, kind="stable")
    return np.flatnonzero(np.diff(ordered)) + 1


def a_year(number: float, at: Array, active: int) -> float:
    """Alerts a year and active person, from those within the time that `at` spans."""
    return float(number) / max(active, 1) * YEAR * DAY / max(float(at.max() - at.min()), 1.0)


def threshold(
    person: Array, at: Array, score: Array, active: int, budget: float, least: float = MIN_CONFIDENCE
) -> float:
    """The least threshold from `least` on that opens at most `budget` alerts a year and active person."""
    low, high = least, 1.0
    if a_year(alerts(person, at, score, low).sum(), at, active) <= budget:
        return low
    for _ in range(12):
        middle = (low + high) / 2
        spent = a_year(alerts(person, at, score, middle).sum(), at, active)
        low, high = (low, middle) if spent <= budget else (middle, high)
    return round(high, 4)


def alert_metrics(person: Array, at: Array, label: Array, score: Array, cut: float, active: int) -> dict[str, float]:
    """Episodes at a threshold: how many, how many were followed by the outcome, how many outcomes were announced."""
    opened = alerts(person, at, score, cut)
    acted = np.unique(person[label])
    return {
        "alerts": float(opened.sum()),
        "alerts a year and active person": a_year(opened.sum(), at, active),
        "precision": float(label[opened].mean()) if opened.any() else float("nan"),
        "recall": float(np.isin(acted, person[opened & label]).mean()) if len(acted) else float("nan"),
    }
