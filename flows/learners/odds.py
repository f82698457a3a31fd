"""Probabilities as log odds, and what a probability costs once the label is known."""

from __future__ import annotations

from math import exp, log

LEAST = 1e-6  # no probability is surer than this


def bounded(probability: float) -> float:
    return min(max(probability, LEAST), 1.0 - LEAST)


def logit(probability: float) -> float:
    p = bounded(probability)
    return log(p / (1.0 - p))


def sigmoid(odds: float) -> float:
    return 1.0 / (1.0 + exp(-odds)) if odds >= 0 else 1.0 - 1.0 / (1.0 + exp(odds))


def loss(label: int, probability: float) -> float:
    """Logarithmic loss in nats."""
    p = bounded(probability)
    return -log(p if label else 1.0 - p)
