"""Settings are tried within a budget, the same by seed, and the best is taken."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from onnx_models.session import score_graph
from training import export, fit, tune
from training.examples import Examples
from training.model import BOOSTED, FOREST, Candidate, Label, Search, Training

POOR = Candidate(name="stump", trees=1, depth=1)
GOOD = Candidate(name="trees", trees=20, rows_a_leaf=5.0, search={"depth": (2, 3, 4), "rows": (0.7, 0.9)})


@pytest.fixture(scope="module")
def rows() -> Examples:
    rng = np.random.default_rng(1)
    features = rng.normal(size=(1500, 5)).astype(np.float32)
    odds = features[:, 0] + features[:, 1] * features[:, 2]
    label = rng.random(1500) < fit.sigmoid(2 * odds)
    return Examples(np.arange(1500), np.arange(1500) * 86_400_000, features, np.ones(1500), label)


def tuned(rows: Examples, **changed: object) -> tune.Tuned:
    of = Training(service="any", label=Label(horizon_days=10), candidates=(POOR, GOOD), search=Search(trials=6))
    return tune.tune(msgspec.structs.replace(of, **changed), rows, lambda done, of: None)


def test_the_better_candidate_wins(rows: Examples) -> None:
    """Whichever comes first, and by whichever figure; each one's best is told."""
    for metric in ("PR-AUC", "Brier", "ROC-AUC"):
        found = tuned(rows, metric=metric)
        assert found.best.candidate.name == "trees"
        assert list(found.of_each) == ["trees", "stump"]
        own = next(trial for trial in found.trials if trial.candidate == GOOD)
        assert found.best.mean <= own.mean if metric == "Brier" else found.best.mean >= own.mean


def test_a_draw_must_beat_the_settings_that_stand_by_more_than_chance() -> None:
    """A mean that is better within a standard error over the folds is luck."""
    own, lucky, better = (
        tune.Trial(msgspec.structs.replace(GOOD, depth=depth), values)
        for depth, values in ((4, (0.5, 0.6, 0.7)), (3, (0.6, 0.55, 0.7)), (2, (0.55, 0.66, 0.76)))
    )
    assert tune._sure([own, lucky, better], 1) == [own, better]
    assert tune._sure([own, lucky, better], -1) == [own]


def test_the_same_by_seed(rows: Examples) -> None:
    """Settings drawn and figures found."""
    assert tuned(rows) == tuned(rows)
    assert tuned(rows).trials != tuned(rows, seed=2).trials


def test_trials_and_seconds_are_limits(rows: Examples) -> None:
    """No more settings than asked for, none twice, none begun when the time is over; the first is always tried."""
    found = tuned(rows)
    assert len(found.trials) <= 6
    assert len({msgspec.json.encode(trial.candidate) for trial in found.trials}) == len(found.trials)
    hurried = tuned(rows, search=Search(trials=6, seconds=0.0))
    assert (len(hurried.trials), hurried.hurried) == (1, True)


def test_without_folds_the_first_stands(rows: Examples) -> None:
    """A time too short for folds tries nothing."""
    found = tuned(rows, label=Label(horizon_days=1500))
    assert (found.best.candidate, found.trials) == (POOR, ())


def test_a_forest_is_exported_like_boosted_trees(rows: Examples) -> None:
    """XGBoost's own random forest: many trees in one round, whose ONNX answers as the trainer does."""
    forest = msgspec.structs.replace(FOREST, trees=40)
    booster = fit.grow(forest, rows.features[:900], rows.label[:900], seed=1)
    assert (booster.num_boosted_rounds(), len(booster.get_dump())) == (1, 40)
    fitted = fit.calibrate(booster, rows.features[900:1200], rows.label[900:1200])
    _, calibrated = score_graph(export.graph(fitted, 5), rows.features[1200:])
    assert np.abs(calibrated - fitted.calibrated(rows.features[1200:])).max() <= 1e-5
    boosted = fit.grow(BOOSTED, rows.features[:900], rows.label[:900], seed=1)
    assert boosted.num_boosted_rounds() == BOOSTED.trees
