"""From rows to a model: boosted trees, then a sigmoid fitted on a later slice."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import xgboost
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from training.model import Training
from training.people import Array

BLOCK = 100_000  # rows scored at once


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


def sigmoid(x: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-x))


def margin(booster: Any, features: Array) -> Array:
    blocks = [features[low : low + BLOCK] for low in range(0, len(features), BLOCK)]
    return np.concatenate([booster.inplace_predict(b, predict_type="margin") for b in blocks]).astype(np.float64)


def boost(training: Training, features: Array, label: Array) -> Any:
    """Trees on float32 (n, inputs) and bool (n,)."""
    parameters = {
        "objective": "binary:logistic",
        "base_score": 0.5,
        "max_depth": training.depth,
        "learning_rate": training.learning_rate,
        "min_child_weight": training.rows_a_leaf / 10,  # a row weighs p (1 - p), about a tenth of one here
        "colsample_bytree": training.columns_a_tree,
        "subsample": training.rows_a_tree,
        "tree_method": "hist",
        "seed": training.seed,
        "nthread": 2,
    }
    return xgboost.train(parameters, xgboost.DMatrix(features, label=label), training.trees)


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
