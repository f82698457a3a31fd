"""Fitting and exporting: the graph answers as the trainer does, by seed the same, and nothing is learnt from noise."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from feature_repo.vocabulary import Vocabulary
from onnx_models.session import score_graph
from training import export, fit
from training.catalogue import MODELS
from training.model import BOOSTED
from training.study import EARLIER, LATER, TRAIN

TREES = msgspec.structs.replace(BOOSTED, trees=30)
ROWS = 6000


def made(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows like features, large and small numbers mixed, and an outcome that two of them move."""
    rng = np.random.default_rng(seed)
    features = rng.poisson(1.0, (ROWS, 12)).astype(np.float32)
    features[:, 3] = rng.normal(3e5, 1e5, ROWS)
    return features, rng.random(ROWS) < fit.sigmoid(features[:, 0] + features[:, 1] / 2 - 4.0)


def fitted(features: np.ndarray, label: np.ndarray) -> fit.Fitted:
    booster = fit.grow(TREES, features[:3000], label[:3000], seed=1)
    return fit.calibrate(booster, features[3000:4500], label[3000:4500])


def test_graph_equals_trainer() -> None:
    """Raw and calibrated answers of the graph equal the trainer's within 1e-5 on rows that it never saw."""
    features, label = made()
    model = fitted(features, label)
    raw, calibrated = score_graph(export.graph(model, 12), features[4500:])
    assert np.abs(raw - model.raw(features[4500:])).max() <= 1e-5
    assert np.abs(calibrated - model.calibrated(features[4500:])).max() <= 1e-5


def test_export_refuses_another_graph() -> None:
    """A graph that answers otherwise than the trainer is refused, with the difference."""
    features, label = made()
    model = fitted(features, label)
    other = msgspec.structs.replace(model, offset=model.offset + 1e-3)
    with pytest.raises(export.Differs, match="expected 1e-05, got"):
        export.check(export.graph(other, 12), model, features[4500:])


def test_same_graph_by_seed() -> None:
    """The same rows and seed give the same graph, byte for byte."""
    features, label = made()
    assert export.graph(fitted(features, label), 12) == export.graph(fitted(features, label), 12)


def test_calibration_makes_probabilities() -> None:
    """Calibrated scores of unseen rows have the mean of their labels, within three standard errors."""
    features, label = made()
    score, seen = fitted(features, label).calibrated(features[4500:]), label[4500:]
    assert abs(score.mean() - seen.mean()) < 3 * (seen.mean() * (1 - seen.mean()) / len(seen)) ** 0.5


def test_calibration_refuses_a_model_that_ranks_nothing() -> None:
    """A margin that falls as the outcome grows is no model: calibration says so."""
    features, label = made()
    booster = fit.grow(TREES, features[:3000], ~label[:3000], seed=1)
    with pytest.raises(ValueError, match="ranks the calibration rows"):
        fit.calibrate(booster, features[3000:4500], label[3000:4500])


def test_slices_leave_a_gap_as_long_as_the_horizon() -> None:
    """Between two slices lies each model's horizon, so that no label is decided within the next slice."""
    longest = max(model.horizon_days for model in MODELS.values())
    assert EARLIER.since - TRAIN.until >= longest
    assert LATER.since - EARLIER.until >= longest


def test_budgets_add_up() -> None:
    """All types together may alert on at most 10 % of active people a year."""
    assert sum(model.budget for model in MODELS.values()) <= 0.10


def test_every_service_that_alerts_has_a_model() -> None:
    """Each service is in the catalogue, and each rule names inputs that the service has."""
    services = {s.name: s for s in Vocabulary().services}
    assert {s.name for s in services.values() if s.alert} <= set(MODELS) <= set(services)
    assert all(set(model.rule) <= set(services[name].features) for name, model in MODELS.items())
