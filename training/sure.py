"""Whether confidence goes with error, and what is lost when inputs are missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from onnx_models.card import Band
from onnx_models.confidence import confidence, known_share
from training import judge
from training.examples import Examples
from training.fit import Fitted
from training.judge import Metrics, Ranked
from training.people import Array

EDGES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
LEAST = 50  # rows of a band: what is fewer joins the next
TRIED = 20_000  # rows from which inputs are taken away
KNOWN = (1.0, 0.75, 0.5, 0.25)


def bands(inputs: Sequence[str], importance: Mapping[str, float], rows: Examples, score: Array) -> tuple[Band, ...]:
    """Accuracy of the likelier answer, and Brier score, by confidence; the lowest first."""
    sure = confidence(score, known_share(importance, inputs, rows.unknown))
    right, squared = (score >= 0.5) == rows.label, (score - rows.label) ** 2
    found: list[Band] = []
    low = EDGES[0]
    for high in (*EDGES[1:], 1.0):
        held = (sure >= low) & ((sure < high) | (high == 1.0))
        number = int(held.sum())
        if number >= LEAST or (high == 1.0 and number):
            found.append(Band(low, high, number, float(right[held].mean()), float(squared[held].mean())))
            low = high
    return tuple(found)


def degraded(
    inputs: Sequence[str],
    defaults: Array,
    importance: Mapping[str, float],
    fitted: Fitted,
    rows: Examples,
    seed: int,
) -> dict[str, Metrics]:
    """How it ranks when each input is known by that chance alone, its default standing for the others."""
    rng = np.random.default_rng(seed)
    some = rows.those(np.arange(0, len(rows), -(-len(rows) // TRIED)))
    found = {}
    for share in KNOWN:
        unknown = some.unknown | (rng.random(some.features.shape) >= share)
        score = fitted.calibrated(np.where(unknown, defaults, some.features).astype(np.float32))
        sure = confidence(score, known_share(importance, inputs, unknown))
        measured = judge.measured(Ranked.of(some.label, score), 0.5)
        kept = {name: measured[name] for name in ("ROC-AUC", "Brier", "calibration error") if name in measured}
        found[f"{share:.0%}"] = kept | {"confidence": float(sure.mean())}
    return found
