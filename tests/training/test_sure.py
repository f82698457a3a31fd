"""Confidence goes with error, and falls as inputs go missing."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from onnx_models.card import Band, Metadata
from onnx_models.confidence import confidence, known_share
from onnx_models.library import Library
from onnx_models.registry import HERE
from training import fit, sure
from training.examples import Examples
from training.model import BOOSTED

INPUTS = ("a", "b", "c")


def shipped() -> list[Metadata]:
    library = Library(HERE)
    return [library.deployed(name).metadata for name in library.names()]


def falls(bands: tuple[Band, ...]) -> None:
    """Error falls from band to band, but for what chance explains: two standard errors."""
    for low, high in pairwise(bands):
        error = np.sqrt(sum(b.accuracy * (1 - b.accuracy) / b.rows for b in (low, high)))
        assert high.accuracy >= low.accuracy - 2 * error
        assert high.brier <= low.brier + 2 * error


@pytest.mark.parametrize("metadata", shipped(), ids=lambda m: m.name)
def test_error_falls_as_confidence_grows(metadata: Metadata) -> None:
    """Of each model that ships, as its card says of rows kept aside."""
    assert len(metadata.confidence) >= 3
    falls(metadata.confidence)
    assert metadata.confidence[-1].accuracy > metadata.confidence[0].accuracy


def test_bands_hold_every_row_once() -> None:
    """A band of few rows joins the next; a probability far from one half is right more often."""
    rng = np.random.default_rng(1)
    score = rng.random(5000)
    rows = Examples(np.arange(5000), np.arange(5000), np.zeros((5000, 3), np.float32), score, rng.random(5000) < score)
    bands = sure.bands(INPUTS, {}, rows, score)
    assert sum(band.rows for band in bands) == 5000
    assert [band.low for band in bands[1:]] == [band.high for band in bands[:-1]]
    falls(bands)
    assert bands[0].accuracy == pytest.approx(0.55, abs=0.03)
    assert bands[-1].accuracy > 0.97


def test_what_is_unknown_takes_its_share_of_the_importance() -> None:
    """The default of an input that matters costs more than that of one that does not."""
    unknown = np.array([[False, False, False], [True, False, False], [False, True, True], [True, True, True]])
    known = known_share({"a": 0.6, "b": 0.3, "c": 0.1}, INPUTS, unknown)
    assert known == pytest.approx([1.0, 0.4, 0.6, 0.0])
    assert confidence(np.array([0.1, 0.9, 0.5, 0.7]), known) == pytest.approx([0.9, 0.66, 0.5, 0.5])
    assert known_share({}, INPUTS, unknown) == pytest.approx([1, 2 / 3, 1 / 3, 0])


def test_confidence_falls_with_what_is_known_as_ranking_does() -> None:
    """With ever fewer inputs a model ranks worse, and is ever less confident."""
    rng = np.random.default_rng(2)
    features = rng.normal(size=(4000, 3)).astype(np.float32)
    label = rng.random(4000) < fit.sigmoid(2 * features.sum(axis=1))
    fitted = fit.calibrate(fit.grow(BOOSTED, features[:2000], label[:2000], 1), features[2000:3000], label[2000:3000])
    rows = Examples(np.arange(1000), np.arange(1000), features[3000:], np.ones(1000), label[3000:])
    found = sure.degraded(INPUTS, np.zeros(3), fitted.importance(INPUTS), fitted, rows, seed=1)
    assert list(found) == ["100%", "75%", "50%", "25%"]
    for name in ("ROC-AUC", "confidence"):
        values = [row[name] for row in found.values()]
        assert values == sorted(values, reverse=True)
        assert values[0] - values[-1] > 0.15
