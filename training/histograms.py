"""How inputs and scores were distributed in training: what drift is told from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnx_models.card import Histogram
from training.examples import Examples
from training.people import Array

BINS = 10


def of(inputs: Sequence[str], rows: Examples, score: Array) -> dict[str, Histogram]:
    """One of each input, and of `score`: in bins of as many rows each, as far as values differ."""
    missing = rows.unknown.mean(axis=0)
    found = {name: histogram(rows.features[:, i], float(missing[i])) for i, name in enumerate(inputs)}
    return found | {"score": histogram(score)}


def histogram(values: Array, missing: float = 0.0) -> Histogram:
    """Edges are rounded to six digits; the last bin holds its upper edge, too."""
    values = np.asarray(values, np.float64)
    found = _quantiles(values)
    if len(found) <= BINS // 2 and len(other := values[values != np.median(values)]):
        found = np.union1d(found, _quantiles(other))  # where most rows say the same, the others are told apart
    edges = np.unique([float(f"{edge:.6g}") for edge in found])
    if len(edges) == 1:
        edges = np.array([edges[0], edges[0] + 1.0])
    edges[0], edges[-1] = min(edges[0], found[0]), max(edges[-1], found[-1])
    return Histogram(edges.tolist(), np.histogram(values, edges)[0].tolist(), round(missing, 6))


def _quantiles(values: Array) -> Array:
    return np.quantile(values, np.linspace(0, 1, BINS + 1))
