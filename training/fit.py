"""From rows to a model: trees, then a sigmoid fitted on a later slice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import xgboost
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from training.model import Candidate
from training.people import Array

BLOCK = 100_000  # rows scored at once
MANY = 20_000  # rows from which a second thread pays: on few they wait for each other, on a busy machine for long


class Fitted(msgspec.Struct, frozen=True):
    """Trees, and the sigmoid over their margin: calibrated = 1 / (1 + exp(-(slope * margin + offset)))."""

    booster: Any
    slope: float
    offset: float

    def margin(self, features: Array) -> Array:
        """Log-odds of the raw probability: float32 (n, inputs) -> float64 (n,)."""
        return margin(self.booster, features)

    def raw(self, features: Array) -> Array:
        return sigmoid(self.margin(features))

    def calibrated(self, features: Array) -> Array:
        return sigmoid(self.slope * self.margin(features) + self.offset)

    def importance(self, inputs: Sequence[str]) -> dict[str, float]:
        """Each input's share of the gain over all splits, the largest first; they sum to 1."""
        gain = self.booster.get_score(importance_type="total_gain")
        found = {name: float(gain.get(f"f{i}", 0.0)) for i, name in enumerate(inputs)}
        total = sum(found.values()) or 1.0
        return {name: round(g / total, 6) for name, g in sorted(found.items(), key=lambda item: -item[1])}


def sigmoid(x: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-x))


def margin(booster: Any, features: Array) -> Array:
    blocks = [features[low : low + BLOCK] for low in range(0, len(features), BLOCK)]
    return np.concatenate([booster.inplace_predict(b, predict_type="margin") for b in blocks]).astype(np.float64)


def grow(candidate: Candidate, features: Array, label: Array, seed: int) -> Any:
    """A candidate's trees on float32 (n, inputs) and bool (n,); the same by seed."""
    shared: dict[str, Any] = {
        "objective": "binary:logistic",
        "base_score": 0.5,
        "max_depth": candidate.depth,
        "min_child_weight": candidate.rows_a_leaf / 10,  # a row weighs p (1 - p), about a tenth of one here
        "subsample": candidate.rows,
        "tree_method": "hist",
        "seed": seed,
        "nthread": 2 if len(features) > MANY else 1,
    }
    if any(candidate.monotone):
        shared["monotone_constraints"] = candidate.monotone
    matrix = xgboost.DMatrix(features, label=label)
    if candidate.forest:  # all trees in one round: each a step of Newton's from the base score, and their mean
        own = {"num_parallel_tree": candidate.trees, "learning_rate": 1.0, "colsample_bynode": candidate.columns}
        return xgboost.train(shared | own, matrix, 1)
    own = {"learning_rate": candidate.learning_rate, "colsample_bytree": candidate.columns}
    return xgboost.train(shared | own, matrix, candidate.trees)


def calibrate(booster: Any, features: Array, label: Array) -> Fitted:
    """The trees with a sigmoid (Platt, 1999) fitted on rows that they have not seen.

    Raises ValueError when the margin ranks these rows no better than chance.
    """
    found = LogisticRegression(C=1e6).fit(margin(booster, features)[:, None], label)
    slope, offset = float(found.coef_[0, 0]), float(found.intercept_[0])
    if slope <= 0:
        raise ValueError(f"expected a model that ranks the calibration rows, got a sigmoid of slope {slope:.3g}")
    return Fitted(booster, slope, offset)


def logistic(features: Array, label: Array) -> Any:
    """Logistic regression on standardised features, for comparison."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=300)).fit(features, label)
