"""Inputs with which a score may only rise, or fall: what everybody knows holds, also where few rows say so."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from feature_repo.declare import Service
from training import fit
from training.job import _constrained
from training.model import BOOSTED, FOREST, Candidate, Training
from training.validate import NotTrainable

SERVICE = Service(name="model", features=("visits", "days_away", "hour"), description="model")
TRAINING = Training(service="model", candidates=(BOOSTED, FOREST), rises=("days_away",), falls=("visits",))


@pytest.fixture(scope="module")
def rows() -> tuple[np.ndarray, np.ndarray]:
    """Noisy: chance alone makes unconstrained trees turn back at places."""
    rng = np.random.default_rng(1)
    features = rng.uniform(0, 10, (1500, 3)).astype(np.float32)
    odds = 0.2 * features[:, 1] - 0.2 * features[:, 0] + 0.5 * np.sin(features[:, 2])
    return features, rng.random(1500) < 1 / (1 + np.exp(-odds))


def steps(candidate: Candidate, rows: tuple[np.ndarray, np.ndarray], column: int) -> np.ndarray:
    """By how much the margin grows from each value of one input to the next, all else equal."""
    booster = fit.grow(msgspec.structs.replace(candidate, trees=30, rows_a_leaf=5.0), *rows, seed=1)
    scale = np.linspace(-5, 15, 60, dtype=np.float32)
    moved = np.repeat(rows[0][:20], len(scale), axis=0)
    moved[:, column] = np.tile(scale, 20)
    return np.diff(fit.margin(booster, moved).reshape(20, -1), axis=1)


@pytest.mark.parametrize("nth", [0, 1], ids=["boosted trees", "random forest"])
def test_a_score_rises_and_falls_only_as_its_file_says(nth: int, rows: tuple[np.ndarray, np.ndarray]) -> None:
    """Both kinds of trees; without the file's word they turn back somewhere, as they may with other inputs."""
    held, free = _constrained(TRAINING, SERVICE).candidates[nth], TRAINING.candidates[nth]
    assert (steps(held, rows, 1) >= 0).all()
    assert (steps(held, rows, 0) <= 0).all()
    assert (steps(held, rows, 2) < 0).any()
    assert (steps(free, rows, 1) < 0).any()


def test_what_is_no_input_is_refused_by_name() -> None:
    """A model's file that names it would constrain nothing."""
    with pytest.raises(NotTrainable, match="model: expected inputs to rise or fall with, got nights"):
        _constrained(msgspec.structs.replace(TRAINING, falls=("nights",)), SERVICE)
