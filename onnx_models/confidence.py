"""How sure a score is: its confidence, as the scoring doors tell it and the card shows it to go with error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from onnx_models.card import Recommendation

Array = np.ndarray[Any, Any]


def confidence(probability: Array, known: Array) -> Array:
    """0.5 + (max(p, 1 - p) - 0.5) x known, (n,) each: how likely the likelier answer is, half where nothing is known.

    `probability`: calibrated, 0-1. `known`: of `known_share`, 0-1. NaN where the probability is. It is not
    max(p, 1 - p) x known, which goes below a coin's toss where little is known, though most such answers are right.
    """
    return 0.5 + (np.maximum(probability, 1.0 - probability) - 0.5) * known


def known_share(importance: Mapping[str, float], inputs: Sequence[str], defaulted: Array) -> Array:
    """The share of the model's importance that lies on inputs which were known: (n, inputs) bool -> float64 (n,).

    `importance`: each input's share of the gain (`Metadata.importance`); where it says nothing all count alike.
    `defaulted`: where the input's default stands for what was missing.
    """
    weights = np.array([importance.get(name, 0.0) for name in inputs], np.float64)
    if not weights.sum() > 0:
        weights = np.ones(len(inputs))
    return (~np.asarray(defaulted, bool)) @ (weights / weights.sum())


def recommended(of: Sequence[Recommendation], probability: float, confidence: float) -> Recommendation | None:
    """The first whose probability and confidence are both reached; None where none is."""
    return next((r for r in of if probability >= r.probability and confidence >= r.confidence), None)
