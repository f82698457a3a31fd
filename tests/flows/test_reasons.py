"""Reasons in words: what raised the score, as a person would say it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import xgboost

from feature_repo.vocabulary import Vocabulary
from flows.explain import Explainer
from flows.reasons import contributions, in_words, reasons
from onnx_models import card
from onnx_models.library import Library
from tests.flows.made_alerts import SIGNAL, alert
from tests.flows.made_models import trees

VOCABULARY = Vocabulary()
NAMES = VOCABULARY.services[0].features


def booster(column: int) -> xgboost.Booster:
    """Trained so that one feature alone decides."""
    rows = np.random.default_rng(1).random((400, len(NAMES)), np.float32) * 10
    labels = (rows[:, column] > 5).astype(np.float32)
    return xgboost.train({"objective": "binary:logistic", "nthread": 1}, xgboost.DMatrix(rows, labels), 10)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("value_check_count_30d", 7.0, "home values looked up: 7 (30 d)"),
        ("email_open_rate_90d", 0.625, "opens by mails sent: 62% (90 d)"),
        ("days_since_doc_access", 3.04, "days since a document was last opened: 3.04"),
        ("days_since_doc_access", 365.0, "days since a document was last opened: a year or never"),
        ("estimated_equity", 412_345.6, "value of the property less what is owed: 412,346 USD"),
        ("address_change_recent", 1.0, "the address changed: yes (90 d)"),
        ("visits_per_week", 0.7, "visits a week: 0.7 (90 d)"),
        ("mean_days_between_sessions", 6.071, "mean gap between days with a visit: 6.07 days"),
        ("property_count", 1.0, "properties owned: 1"),
        ("profile_updates_strength", 0.0, "changes the profile: not at all (30 d)"),
        ("profile_updates_strength", 0.8, "changes the profile: strongly (30 d)"),
        ("document_signal_count", 3.0, "document signals above 0.3: 3"),
        ("loan_to_value", 0.8, "what is owed by the value: 0.8"),
    ],
)
def test_a_value_in_words(name: str, value: float, words: str) -> None:
    """Description, value in its unit, window; what stands for "never" is said so."""
    assert in_words(VOCABULARY.features[VOCABULARY.feature_index[name]], value) == words


def test_every_feature_can_be_said() -> None:
    """No feature of the vocabulary lacks words, at its default or above it."""
    for feature in VOCABULARY.features:
        assert in_words(feature, feature.default)
        assert in_words(feature, feature.default + 1) != in_words(feature, feature.default)


def test_the_deciding_feature_comes_first() -> None:
    """The feature that the model goes by leads the reasons; what lowered the score is not among them."""
    column = NAMES.index("comparable_views_30d")
    values = [0.0] * len(NAMES)
    values[column] = 9.0
    added = contributions(booster(column), values)
    said = reasons(VOCABULARY, NAMES, values, added, [])
    assert said == ["comparables viewed: 9 (30 d)"]
    values[column] = 1.0
    assert reasons(VOCABULARY, NAMES, values, contributions(booster(column), values), []) == []


def test_none_of_something_is_no_reason() -> None:
    """Though it raised the score most; no hours since the last event is one, and the others move up."""
    values, added = [0.0] * len(NAMES), [0.0] * len(NAMES)
    added[NAMES.index("profile_updates_strength")] = 3.0
    added[NAMES.index("property_count")] = 2.0
    added[NAMES.index("hours_since_last_event")] = 1.0
    assert reasons(VOCABULARY, NAMES, values, added, []) == ["hours since any activity: 0"]


def test_contributions_add_up_to_the_score() -> None:
    """Together with the bias they are the model's log odds."""
    model, values = booster(3), [float(i % 10) for i in range(len(NAMES))]
    row = xgboost.DMatrix(np.asarray([values], np.float32))
    bias = model.predict(row, pred_contribs=True)[0, -1]
    assert sum(contributions(model, values)) + bias == pytest.approx(
        model.predict(row, output_margin=True)[0], abs=1e-5
    )


def test_a_signal_is_said_once() -> None:
    """A strength that raised the score speaks as its signal, with counts, and is not repeated."""
    values = [0.0] * len(NAMES)
    added = [0.0] * len(NAMES)
    at = NAMES.index("value_checks_strength")
    values[at], added[at] = 0.8, 1.5
    said = reasons(VOCABULARY, NAMES, values, added, [SIGNAL])
    assert said == ["keeps checking what the home is worth (last 30 d: 5)"]


def test_a_count_speaks_as_the_signal_it_made() -> None:
    """Where a telling signal counts the very same, it is said in the signal's words, once; else as a count."""
    values, added = [0.0] * len(NAMES), [0.0] * len(NAMES)
    at = NAMES.index("value_check_count_30d")
    values[at], added[at] = 5.0, 1.5
    assert reasons(VOCABULARY, NAMES, values, added, [SIGNAL]) == [
        "keeps checking what the home is worth (last 30 d: 5)"
    ]
    weak = msgspec.structs.replace(SIGNAL, strength=0.1)
    assert reasons(VOCABULARY, NAMES, values, added, [weak]) == ["home values looked up: 5 (30 d)"]


def test_explains_with_the_version_that_scored(tmp_path: Path) -> None:
    """The alert's own model version is asked; where it is gone or damaged, the signals speak."""
    column = NAMES.index("session_count_30d")
    trees(tmp_path, VOCABULARY.services[0], NAMES[column], 5.0, 0.5, "1" * 14)
    damaged = trees(tmp_path, VOCABULARY.services[0], NAMES[column], 5.0, 0.5, "2" * 14) / card.BOOSTER
    damaged.write_bytes(damaged.read_bytes()[:-1])
    values = [0.0] * len(NAMES)
    values[column] = 9.0
    explain = Explainer(VOCABULARY, Library(tmp_path))
    signal = "keeps checking what the home is worth (last 30 d: 5)"
    assert explain.reasons(alert(1, features=values, model_version="1" * 14)) == ["visits: 9 (30 d)", signal]
    assert explain.reasons(alert(1, features=values, model_version="2" * 14)) == [signal]
    assert explain.reasons(alert(1, features=values, model_version="3" * 14)) == [signal]
