"""How good probabilities are on rows, and how sure that is: intervals from people drawn again."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np

from training.people import Array

METRICS = {  # higher is better
    "ROC-AUC": True,
    "PR-AUC": True,
    "Brier": False,
    "Brier skill": True,
    "calibration slope": True,
    "calibration error": False,
    "accuracy": True,
    "precision": True,
    "recall": True,
    "F1": True,
    "precision at top 20 %": True,
}
TOP = 0.2
BINS = 10  # of as many rows each, for the calibration error
DRAWN = 200  # times that people are drawn again
WORK = 40_000_000  # rows measured for one interval, at most; yet 50 draws
LEVEL = (2.5, 97.5)  # per cent
_PIECES = 500  # of neighbouring scores, over which the calibration's slope is fitted
Metrics = dict[str, float]
Intervals = dict[str, tuple[float, float]]


class Ranked(msgspec.Struct, frozen=True):
    """Rows from the highest score on. `last`: of each score, its last row; `piece`: first row of each piece."""

    order: Array
    score: Array
    label: Array
    last: Array
    piece: Array

    @classmethod
    def of(cls, label: Array, score: Array) -> Ranked:
        order = np.argsort(-score, kind="stable")
        sorted_ = np.asarray(score, np.float64)[order]
        last = np.flatnonzero(np.append(np.diff(sorted_) != 0, True))
        piece = np.unique(np.linspace(0, len(order), min(_PIECES, len(order)), endpoint=False).astype(np.int64))
        return cls(order, sorted_, np.asarray(label, bool)[order], last, piece)


def measured(of: Ranked, cut: float, weight: Array | None = None) -> Metrics:
    """All of METRICS; `accuracy` to `F1` for the answer "score >= cut". `weight`: (n,) how often each row counts.

    The calibration error is the mean gap between score and share over 10 bins of as many rows (expected calibration
    error); the slope is that of a logistic regression of the label on the score's log odds: below 1 is overconfident
    (Cox, 1958); Brier skill is against answering the base rate. Empty where the rows have one class.
    """
    w = np.ones(len(of.order)) if weight is None else np.asarray(weight, np.float64)[of.order]
    hits, all_ = np.cumsum(w * of.label), np.cumsum(w)
    hit, total = float(hits[-1]), float(all_[-1])
    if not 0 < hit < total:
        return {}
    return (
        _ranking(of, hits, all_)
        | _probability(of, w, hit / total)
        | {"calibration slope": _slope(of, w), "calibration error": _error(of, w, all_)}
        | _decided(of, hits, all_, cut)
        | {"precision at top 20 %": _top(hits, all_)}
    )


def _ranking(of: Ranked, hits: Array, all_: Array) -> Metrics:
    hit, seen = hits[of.last], all_[of.last]
    there = seen > 0
    hit, seen = hit[there], seen[there]
    recall, missed = np.append(0.0, hit / hit[-1]), np.append(0.0, (seen - hit) / (seen[-1] - hit[-1]))
    return {
        "ROC-AUC": float(np.trapezoid(recall, missed)),
        "PR-AUC": float((np.diff(recall) * hit / seen).sum()),  # average precision
    }


def _probability(of: Ranked, w: Array, rate: float) -> Metrics:
    brier = float((w * (of.score - of.label) ** 2).sum() / w.sum())
    return {"Brier": brier, "Brier skill": 1 - brier / (rate * (1 - rate))}


def _slope(of: Ranked, w: Array) -> float:
    """By Newton's steps over pieces of neighbouring scores; 0 where these do not differ, so that they have none."""
    clipped = np.clip(of.score, 1e-6, 1 - 1e-6)
    weight, hit = np.add.reduceat(w, of.piece), np.add.reduceat(w * of.label, of.piece)
    x = np.add.reduceat(np.log(clipped / (1 - clipped)), of.piece) / np.diff(np.append(of.piece, len(w)))
    columns = np.stack([np.ones(len(x)), x])
    found = np.array([0.0, 1.0])
    for _ in range(12):
        p = 1 / (1 + np.exp(-np.clip(found @ columns, -30, 30)))
        information = (columns * (weight * p * (1 - p))) @ columns.T
        if np.linalg.cond(information) > 1e12:
            return 0.0
        step = np.linalg.solve(information, columns @ (hit - weight * p))
        found += np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-7:
            break
    return float(found[1]) if np.isfinite(found[1]) else 0.0


def _error(of: Ranked, w: Array, all_: Array) -> float:
    which = np.minimum((all_ - w / 2) / all_[-1] * BINS, BINS - 1).astype(np.int64)
    said, came = np.bincount(which, w * of.score, BINS), np.bincount(which, w * of.label, BINS)
    return float(np.abs(said - came).sum() / all_[-1])


def _decided(of: Ranked, hits: Array, all_: Array, cut: float) -> Metrics:
    rows = int(np.searchsorted(-of.score, -cut, side="right"))
    right, said = (float(hits[rows - 1]), float(all_[rows - 1])) if rows else (0.0, 0.0)
    hit, total = float(hits[-1]), float(all_[-1])
    return {
        "accuracy": (right + (total - hit) - (said - right)) / total,
        "precision": right / said if said else 0.0,
        "recall": right / hit,
        "F1": 2 * right / (said + hit),
    }


def _top(hits: Array, all_: Array) -> float:
    rows = min(int(np.searchsorted(all_, TOP * all_[-1])), len(all_) - 1)
    return float(hits[rows] / all_[rows])


def best_cut(label: Array, score: Array) -> float:
    """The score from which on saying yes gives the best F1."""
    of = Ranked.of(label, score)
    hits = np.cumsum(of.label)[of.last]
    f1 = 2 * hits / (of.last + 1 + hits[-1])
    return float(of.score[of.last[int(np.argmax(f1))]])


def intervals(person: Array, measure: Callable[[Array], Metrics], seed: int, draws: int = 0) -> Intervals:
    """95 % intervals of what `measure` (weights (n,) -> metrics) gives when people are drawn again, rows and all.

    Rows of one person are alike, so rows drawn one by one would look surer than they are (Efron, 1979).
    """
    _, index = np.unique(person, return_inverse=True)
    people = int(index.max(initial=0)) + 1
    rng = np.random.default_rng(seed)
    found: dict[str, list[float]] = {}
    for _ in range(draws or max(50, min(DRAWN, WORK // max(len(person), 1)))):
        counts = np.bincount(rng.integers(0, people, people), minlength=people)
        for name, value in measure(counts[index]).items():
            found.setdefault(name, []).append(value)
    ends = {name: np.nanpercentile(values, LEVEL) for name, values in found.items() if np.isfinite(values).any()}
    return {name: (float(low), float(high)) for name, (low, high) in ends.items()}
