"""Trains models in a simulated study and writes their new versions."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from feature_repo.declare import Service
from feature_repo.vocabulary import Vocabulary
from onnx_models import card
from training import export
from training.catalogue import MODELS
from training.model import Training
from training.report import Made, make
from training.study import DAYS, EARLIER, LATER, TRAIN, Sizes, Study, study

HELD_OUT = 20_000  # rows on which ONNX must equal the trainer


class UnknownModel(ValueError):
    """No file of this room describes the model."""


def train(names: list[str], vocabulary: Vocabulary, sizes: Sizes, directory: Path) -> list[Path]:
    """The new version of each model. Raises UnknownModel, and what `export.write` raises."""
    for name in names:
        if name not in MODELS:
            raise UnknownModel(f"expected a model among {sorted(MODELS)}, got {name!r}")
    made_in = study(vocabulary, sizes)
    return [_train(MODELS[name], vocabulary, made_in, directory) for name in names]


def _train(training: Training, vocabulary: Vocabulary, made_in: Study, directory: Path) -> Path:
    service = next(s for s in vocabulary.services if s.name == training.service)
    inputs = np.array([vocabulary.feature_index[name] for name in service.features])
    made = make(training, service.outcome or "", inputs, made_in)
    held_out = made_in.judged["later time"].rows.features[:, inputs]
    held_out = held_out[:: max(len(held_out) // HELD_OUT, 1)]
    metadata = _metadata(training, service, vocabulary, made_in, made)
    return export.write(directory, made.fitted, held_out, metadata)


def _metadata(
    training: Training, service: Service, vocabulary: Vocabulary, made_in: Study, made: Made
) -> card.Metadata:
    return card.Metadata(
        name=training.service,
        version=datetime.now(UTC).strftime("%Y%m%d%H%M%S"),
        service=service.name,
        alert=service.alert,
        outcome=service.outcome or "",
        horizon_days=training.horizon_days,
        inputs=service.features,
        threshold=made.threshold,
        budget=training.budget,
        files={},
        golden=card.Golden([], [], []),
        trained_on=_trained_on(training, service, made_in),
        metrics=made.metrics,
        vocabulary=vocabulary.fingerprint,
        packages={},
    )


def _trained_on(training: Training, service: Service, made_in: Study) -> dict[str, str | int | float]:
    label = made_in.train.label(service.outcome or "", training.horizon_days)
    return {
        "people": f"simulated, {made_in.sizes.people:,}, of whom {made_in.sizes.unseen:.0%} were kept aside",
        "seed": made_in.sizes.seed,
        "days": f"{DAYS}: train {TRAIN.since}-{TRAIN.until}, sigmoid and threshold {EARLIER.since}-{EARLIER.until},"
        f" judged {LATER.since}-{LATER.until}",
        "rows": len(label),
        "rows with the outcome": int(label.sum()),
        "trees": training.candidates[0].trees,
        "depth": training.candidates[0].depth,
    }
