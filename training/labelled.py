"""Trains a model on a file of labels: any domain, any outcome, judged on what came later."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.declare import Service
from feature_repo.finish import DAY
from flows.alert import MIN_CONFIDENCE
from onnx_models import card
from training import evaluate, export, fit
from training.dataset import TooFew, features_and_confidence
from training.evaluate import Scored
from training.labels import Labels
from training.model import Label, Training
from training.past import NotReadable, past
from training.people import Array
from training.training_set import Wanted, from_past

TRAIN, EARLIER, LATER = range(3)
NAMES = ("train", "sigmoid and threshold", "judge")
SHARES = (0.6, 0.8)  # of the rows, or of the cases: what is trained on, and up to where the threshold is made


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How to learn.

    `label`: the labels' column, 0 or 1. `horizon_days`: within how many days of `as_of` it is decided. `cases`: each
    user is one case, with one outcome; else the same people come again and again. `budget`: alerts a year and active
    person, at most; `least`: the least threshold.
    """

    label: str = "label"
    horizon_days: int = 30
    cases: bool = False
    budget: float = 1.0
    least: float = MIN_CONFIDENCE


class Rows(msgspec.Struct, frozen=True):
    """Labelled rows sorted by person, then time: (n,) each, `features` float32 (n, inputs)."""

    person: Array
    at: Array
    features: Array
    sure: Array
    label: Array

    def __len__(self) -> int:
        return len(self.person)

    def those(self, which: Array) -> Rows:
        return Rows(*(getattr(self, name)[which] for name in self.__struct_fields__))

    def scored(self, score: Array, days: int) -> Scored:
        return Scored(self.person, self.at, score, self.sure, len(np.unique(self.person)), days)


def train(wanted: Wanted, asked: Labels, service: Service, options: Options, directory: Path) -> card.Metadata:
    """Writes a new version of the service's model into `directory`.

    Raises NotReadable on what is wrong with the labels, TooFew when a slice cannot teach or judge, and what
    `export.write` raises.
    """
    if outside := [name for name in service.features if name not in wanted.vocabulary.feature_index]:
        raise NotReadable(f"{service.name}: expected features of {wanted.vocabulary.view}, got {', '.join(outside)}")
    these = _rows(wanted, asked, service, options)
    slices = [these.those(part) for part in _slices(these, options)]
    for name, part in zip(NAMES, slices, strict=True):
        _check(name, part, options)
    training = Training(service=service.name, budget=options.budget, label=Label(horizon_days=options.horizon_days))
    booster = fit.grow(training.candidates[0], slices[TRAIN].features, slices[TRAIN].label, training.seed)
    try:
        fitted = fit.calibrate(booster, slices[EARLIER].features, slices[EARLIER].label)
    except ValueError as error:
        raise TooFew(f"{service.name}: {error}; these labels and features teach it nothing that lasts") from error
    early = slices[EARLIER]
    scored = early.scored(fitted.calibrated(early.features), options.horizon_days)
    cut = evaluate.threshold(scored, options.budget, options.least)
    metadata = _metadata(wanted, service, training, options, slices, cut, _metrics(fitted, slices, cut, options))
    place = export.write(directory, fitted, slices[LATER].features, metadata)
    return card.decode((place / card.METADATA).read_bytes())


def _rows(wanted: Wanted, asked: Labels, service: Service, options: Options) -> Rows:
    label = _label(asked, options.label)
    found = from_past(past(wanted.history, wanted.vocabulary), wanted, asked, features_and_confidence)
    inputs = [wanted.vocabulary.feature_index[name] for name in service.features]
    person = np.asarray(asked.users.dictionary_encode().indices, np.int64)
    order = np.lexsort((asked.milliseconds, person))
    matrix = found[:, inputs].astype(np.float32)
    return Rows(person, asked.milliseconds, matrix, found[:, -1], label).those(order)


def _label(asked: Labels, name: str) -> Array:
    if name not in asked.table.column_names:
        raise NotReadable(f"the labels: expected a column {name}, got {', '.join(asked.table.column_names)}")
    try:
        found = asked.table[name].combine_chunks().cast(pa.float64())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise NotReadable(f"the labels, column {name}: expected 0 or 1 in every row: {error}") from error
    wrong = pc.invert(pc.fill_null(pc.is_in(found, value_set=pa.array([0.0, 1.0])), fill_value=False))
    if (bad := pc.index(wrong, value=True).as_py()) >= 0:
        raise NotReadable(f"the labels, row {bad + 1}, column {name}: expected 0 or 1, got {found[bad].as_py()}")
    return np.asarray(found) == 1.0


def _slices(these: Rows, options: Options) -> list[Array]:
    """Masks of the rows to train on, of those for sigmoid and threshold, and of those to judge by: one after another.

    Of cases, each lies in the slice in which it began. Else a row lies in that of its instant, and those whose label
    was decided within the next are left out.
    """
    when = these.at
    if options.cases:
        starts = np.full(int(these.person.max(initial=0)) + 1, np.iinfo(np.int64).max)
        np.minimum.at(starts, these.person, these.at)
        when = starts[these.person]
        cuts = np.quantile(starts, SHARES, method="higher")
    else:
        cuts = np.quantile(when, SHARES, method="higher")
    nth = np.searchsorted(cuts, when, side="right")
    ends = np.append(cuts, np.iinfo(np.int64).max)[nth]
    decided = options.cases | (these.at + options.horizon_days * DAY <= ends)
    return [(nth == part) & decided for part in (TRAIN, EARLIER, LATER)]


def _check(name: str, part: Rows, options: Options) -> None:
    if part.label.all() or not part.label.any():
        gap = "" if options.cases else f", {options.horizon_days} days apart from the next (--horizon-days)"
        of = f"{len(part)} rows, {int(part.label.sum())} of them with the outcome"
        raise TooFew(f"the slice to {name}{gap}: expected rows with the outcome and rows without, got {of}")


def _metrics(fitted: fit.Fitted, slices: list[Rows], cut: float, options: Options) -> dict[str, dict[str, float]]:
    """How it does on the later rows, and how a logistic regression ranks them."""
    later, early = slices[LATER], slices[TRAIN]
    score = fitted.calibrated(later.features)
    scored = later.scored(score, options.horizon_days)
    ours = evaluate.row_metrics(later.label, score) | evaluate.alert_metrics(scored, later.label, cut)
    ours["Brier"] = float(np.mean((score - later.label) ** 2))
    plain = fit.logistic(early.features, early.label).predict_proba(later.features)[:, 1]
    return {"later time, ours": ours, "later time, logistic regression": evaluate.row_metrics(later.label, plain)}


def _metadata(
    wanted: Wanted,
    service: Service,
    training: Training,
    options: Options,
    slices: list[Rows],
    cut: float,
    metrics: dict[str, dict[str, float]],
) -> card.Metadata:
    told: dict[str, str | int | float] = {
        f"rows to {name}": f"{len(part):,} of {len(np.unique(part.person)):,} people, "
        f"{int(part.label.sum()):,} with the outcome, {_span(part)}"
        for name, part in zip(NAMES, slices, strict=True)
    }
    split = "by the case's first row" if options.cases else f"by time, {options.horizon_days} days apart"
    return card.Metadata(
        name=service.name,
        version=datetime.now(UTC).strftime("%Y%m%d%H%M%S"),
        service=service.name,
        alert=service.alert,
        outcome=service.outcome or options.label,
        horizon_days=options.horizon_days,
        inputs=service.features,
        threshold=cut,
        budget=options.budget,
        files={},
        golden=card.Golden([], [], []),
        trained_on=told
        | {"split": split, "trees": training.candidates[0].trees, "depth": training.candidates[0].depth},
        metrics=metrics,
        vocabulary=wanted.vocabulary.fingerprint,
        packages={},
        simulated=False,
    )


def _span(part: Rows) -> str:
    first, last = (datetime.fromtimestamp(int(at) / 1000, UTC).date() for at in (part.at.min(), part.at.max()))
    return f"{first} to {last}"
