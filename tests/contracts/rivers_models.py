"""The learners' models, put together as River's documentation does."""

from __future__ import annotations

from typing import Any

from river.compose import Pipeline
from river.forest import ARFClassifier
from river.linear_model import LogisticRegression
from river.optim import SGD
from river.optim.losses import Log
from river.preprocessing import StandardScaler

from flows.learners.challenger_linear import LEVEL_RATE, POSITIVE, RATE


def linear() -> Any:
    """Of `challenger_linear`."""
    regression = LogisticRegression(SGD(RATE), loss=Log(weight_pos=POSITIVE), intercept_lr=LEVEL_RATE)
    return Pipeline(StandardScaler(), regression)


def forest() -> Any:
    """Of `challenger_forest`."""
    return ARFClassifier(n_models=3, leaf_prediction="mc", max_depth=6, grace_period=40, seed=1)
