"""Why a score is high, in words: what raised it most, and the signals beside it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from feature_repo.declare import Array, Feature, Signal, Strength
from feature_repo.vocabulary import Vocabulary
from flows.alert import SignalRecord

RAISING = 4  # features named, at most
REASONS = 6  # of them and signals, at most
TELLING = 0.3  # strength from which a signal is worth saying
YES_NO = "0 or 1"
UNSPOKEN = ("events", "signals", *"-0123456789")  # units that a description says already, and ranges
_PERIOD = re.compile(r"\b(\d+)([dh])\b")


def contributions(booster: Any, features: Sequence[float]) -> list[float]:
    """What each feature adds to the score's log odds. `booster`: of XGBoost."""
    import numpy as np

    return [float(c) for c in contributed(booster, np.asarray([features], np.float32))[0, :-1]]


def contributed(booster: Any, rows: Array) -> Array:
    """The same of float32 (n, features) -> (n, features + 1), the last the bias (TreeSHAP; exact for trees).

    Source: Lundberg et al., From local explanations to global understanding with explainable AI for trees (2020).
    """
    import xgboost

    return booster.predict(xgboost.DMatrix(rows, nthread=1), pred_contribs=True, validate_features=False)


def reasons(
    vocabulary: Vocabulary,
    names: Sequence[str],
    values: Sequence[float],
    added: Sequence[float],
    signals: Sequence[SignalRecord],
) -> list[str]:
    """The features that raised the score most, strongest first; then telling signals that these do not name.

    `names`, `values` and `added` are of equal length, in the order of the model's service; `added` is empty
    where the model's contributions are not to be had.
    """
    told = {s.name: s for s in signals}
    known = {s.name for s in vocabulary.signals}
    telling = [s for s in signals if s.strength >= TELLING and s.name in known]
    telling.sort(key=lambda s: -s.strength * s.confidence)
    features = _features(vocabulary, names)
    raising = [i for i in _raising(added) if not says_nothing(features[i], values[i])]
    said = [_reason(vocabulary, names[i], values[i], told, telling) for i in raising[:RAISING]]
    also = [_signal(vocabulary, s.name, s) for s in telling]
    return list(dict.fromkeys([*said, *also]))[:REASONS]


def in_words(feature: Feature, value: float) -> str:
    """`home values looked up: 7 (30 d)`."""
    what, _, note = feature.description.partition("; ")
    if note and value == feature.default:
        return f"{what}: {note.partition(' = ')[2]}"
    window = "" if note or not feature.window[0].isdigit() else f" ({feature.window})"
    return f"{what}: {_amount(feature, value)}{window}"


def says_nothing(feature: Feature, value: float) -> bool:
    """None of something is no reason, nor is what is unknown; no days since the last visit is one."""
    return value == feature.default == 0


def _features(vocabulary: Vocabulary, names: Sequence[str]) -> list[Feature]:
    return [vocabulary.features[vocabulary.feature_index[name]] for name in names]


def _raising(added: Sequence[float]) -> list[int]:
    return [i for i in sorted(range(len(added)), key=lambda i: -added[i]) if added[i] > 0]


def _reason(
    vocabulary: Vocabulary,
    name: str,
    value: float,
    told: dict[str, SignalRecord],
    telling: list[SignalRecord],
) -> str:
    """A strength speaks as its signal, and so does a count that is evidence of a telling one."""
    feature = vocabulary.features[vocabulary.feature_index[name]]
    if isinstance(feature.of, Strength) and value > 0:
        return _signal(vocabulary, feature.of.signal, told.get(feature.of.signal))
    evidence = {s.name: s.evidence.values() for s in vocabulary.signals}
    record = next((r for r in telling if value > 0 and feature.of in evidence[r.name]), None)
    return _signal(vocabulary, record.name, record) if record else in_words(feature, value)


def _signal(vocabulary: Vocabulary, name: str, record: SignalRecord | None) -> str:
    declared: Signal = next(s for s in vocabulary.signals if s.name == name)
    counts = ", ".join(f"{_spelled(k)}: {v:.10g}" for k, v in record.counts.items() if v) if record else ""
    return f"{declared.says} ({counts})" if counts else declared.says


def _spelled(count: str) -> str:
    """`last_30d` as `last 30 d`."""
    return _PERIOD.sub(r"\1 \2", count.replace("_", " "))


def _amount(feature: Feature, value: float) -> str:
    """In its unit; a strength, 0-1, in three words, and what a description names already without its unit."""
    unit = feature.unit
    if isinstance(feature.of, Strength):
        return "strongly" if value >= 0.7 else "clearly" if value >= TELLING else "a little" if value else "not at all"
    if unit == YES_NO:
        return "yes" if value else "no"
    if unit == "0-1":
        return f"{value:.0%}"
    if unit == "-1 to 1":
        return f"{value:+.0%}"
    number = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return number if unit.startswith(UNSPOKEN) or feature.description.startswith(unit) else f"{number} {unit}"
