"""Rows that cannot teach are refused in words, all at once."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score

from training import validate
from training.examples import Examples
from training.labels import AS_OF, USER, Labels
from training.model import Training
from training.splits import Slices

TRAINING = Training(service="leads")
INPUTS = ("calls", "visits", "told")


def rows(label: np.ndarray, told: np.ndarray | None = None) -> Examples:
    """Two inputs of chance, and one that a test may choose."""
    n = len(label)
    features = np.random.default_rng(1).normal(size=(n, 3)).astype(np.float32)
    if told is not None:
        features[:, 2] = told
    return Examples(np.arange(n), np.arange(n) * 1000, features, np.ones(n), label)


def labels(**columns: list[object]) -> Labels:
    moments = [datetime(2026, 1, day, tzinfo=UTC) for day in (1, 2, 3)]
    as_of = pa.array(moments, pa.timestamp("us", tz="UTC"))
    return Labels(pa.table({USER: ["a", "b", "c"], AS_OF: as_of} | {name: pa.array(v) for name, v in columns.items()}))


def test_good_rows_pass() -> None:
    """A hundred of both kinds, and no input that knows."""
    label = np.arange(200) % 3 == 0
    of = rows(label)
    assert validate.rows(INPUTS, of) == []
    assert validate.slices(TRAINING, INPUTS, Slices(of, of, {"later time": of})) == []


def test_everything_wrong_is_said_at_once() -> None:
    """Too few rows, a constant label, numbers that are none."""
    of = rows(np.ones(20, bool), np.full(20, np.inf))
    few, constant, infinite = validate.rows(INPUTS, of)
    assert few == "expected 100 rows or more, got 20"
    assert constant == "expected labels of both kinds, got 1 in every row"
    assert infinite == "expected finite numbers, got others in told"


def test_two_labels_of_one_moment_contradict() -> None:
    """The same person and instant cannot have both."""
    of = rows(np.arange(200) % 2 == 0)
    same = msgspec.structs.replace(of, person=of.person // 2, at=of.at // 2000)
    assert validate.rows(INPUTS, same) == ["expected one label for a user and instant, got 0 and 1 for 100"]


def test_a_slice_without_the_outcome_is_named() -> None:
    """Nothing can be calibrated, or judged, on rows of one class."""
    good, bad = rows(np.arange(200) % 2 == 0), rows(np.zeros(50, bool))
    said = validate.slices(TRAINING, INPUTS, Slices(good, bad, {"later time": bad}))
    apart = "(90 days apart from the next): expected some with the outcome and some without, got 50 rows, 0 with it"
    assert said == [f"rows to calibrate on {apart}", f"rows to judge by (later time) {apart}"]


def test_a_leak_stops_the_run_unless_it_is_declared() -> None:
    """An input that alone ranks the label, in whichever direction, knows the answer."""
    label = np.arange(400) % 4 == 0
    of = rows(label, np.random.default_rng(2).normal(size=400) - 4.0 * label)
    (said,) = validate.telling(TRAINING, INPUTS, of)
    assert said.startswith("told alone reaches a ROC-AUC of 0.99")
    declared = msgspec.structs.replace(TRAINING, telling=("told",))
    assert validate.telling(declared, INPUTS, of) == []


def test_alone_is_each_inputs_roc_auc() -> None:
    """As scikit-learn has it, or one less it."""
    label = np.arange(300) % 3 == 0
    of = rows(label, np.round(np.random.default_rng(3).normal(size=300) - 0.5 * label))
    expected = [roc_auc_score(label, column) for column in of.features.T]
    assert validate.alone(of.features, label) == pytest.approx([max(auc, 1 - auc) for auc in expected])


def test_a_column_newer_than_as_of_stops_the_run_unless_it_is_declared() -> None:
    """What was not known then may not be learnt from; a time before, or none, is no problem."""
    late = datetime(2026, 1, 2, 1, tzinfo=UTC)
    asked = labels(
        seen_at=[late, late, late], known_at=[datetime(2026, 1, 1, tzinfo=UTC), None, None], number=[1, 2, 3]
    )
    (said,) = validate.newer(asked, ())
    assert said.startswith("column seen_at: expected no time after as_of, got 2 (first in row 1)")
    assert validate.newer(asked, ("seen_at",)) == []
