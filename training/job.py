"""The steps from slices to a judged model: tune, grow, calibrate, judge, hold to the gates."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import numpy as np

from feature_repo.declare import Service
from feature_repo.moments import instant
from feature_repo.vocabulary import Vocabulary
from onnx_models import card
from onnx_models.session import Model
from training import export, fit, gates, histograms, labelled, report, splits, sure, tune, validate
from training.examples import Examples
from training.fit import Fitted
from training.labels import Labels
from training.linear import Linear
from training.model import Training
from training.people import Array
from training.progress import Progress
from training.report import OURS, RULE, SERVING, Judged
from training.splits import Slices
from training.training_set import Wanted
from training.tune import Tuned
from training.validate import NotTrainable

_NOT_SHOWN = ("name", "forest", "search", "learning_rate", "monotone")
HELD_OUT = 20_000  # rows on which ONNX must equal the trainer


class Origin(msgspec.Struct, frozen=True):
    """Where the rows come from, for the card."""

    simulated: bool
    told: dict[str, str | int | float]


class Made(msgspec.Struct, frozen=True):
    """A fitted model with its metadata but for the seal; and of rows kept aside: inputs, labels, scores by who."""

    fitted: Fitted | Linear
    metadata: card.Metadata
    held_out: Array
    label: Array
    scores: dict[str, Array]

    @property
    def failed(self) -> str:
        """What it did not reach; empty where it passed every gate."""
        return gates.failed(list(self.metadata.gates))


def taught(
    wanted: Wanted, asked: Labels, training: Training, service: Service, said: Progress, serving: Model | None = None
) -> Made:
    """A model from rows of labels. Raises what `labelled.examples`, `sliced` and `make` raise."""
    slices = sliced(training, service, labelled.examples(wanted, asked, training, service))
    origin = Origin(simulated=False, told={})
    return make(training, service, wanted.vocabulary, slices, origin, said, serving)


def sliced(training: Training, service: Service, of: Examples) -> Slices:
    """Rows apart by time. Raises NotTrainable that lists all that is wrong with them."""
    if problems := validate.rows(service.features, of):
        raise NotTrainable(service.name, problems)
    return splits.split(of, training.horizon_days, cases=training.cases)


def make(
    training: Training,
    service: Service,
    vocabulary: Vocabulary,
    slices: Slices,
    origin: Origin,
    said: Progress,
    serving: Model | None = None,
) -> Made:
    """Raises NotTrainable, and Differs where ONNX does not answer as the trainer does."""
    said.step("validate")
    if problems := validate.slices(training, service.features, slices):
        raise NotTrainable(service.name, problems)
    training = _constrained(training, service)
    said.step("tune", 0, training.search.trials)
    tuned = tune.tune(training, slices.train, lambda done, of: said.step("tune", done, of))
    said.step("fit")
    fitted = _fitted(training, service, tuned, slices)
    said.step("judge")
    judged = report.judged(training, service.features, fitted, slices, serving)
    said.step("export")
    return _made(training, service, vocabulary, slices, origin, tuned, fitted, judged, serving)


def _constrained(training: Training, service: Service) -> Training:
    """With what each candidate has to know of the inputs' directions. Raises NotTrainable for what is no input."""
    ways = dict.fromkeys(training.rises, 1) | dict.fromkeys(training.falls, -1)
    if unknown := [name for name in ways if name not in service.features]:
        raise NotTrainable(service.name, [f"expected inputs to rise or fall with, got {', '.join(unknown)}"])
    monotone = tuple(ways.get(name, 0) for name in service.features)
    candidates = tuple(msgspec.structs.replace(each, monotone=monotone) for each in training.candidates)
    return msgspec.structs.replace(training, candidates=candidates)


def _fitted(training: Training, service: Service, tuned: Tuned, slices: Slices) -> Fitted:
    booster = fit.grow(tuned.best.candidate, slices.train.features, slices.train.label, training.seed)
    try:
        return fit.calibrate(booster, slices.between.features, slices.between.label)
    except ValueError as error:
        raise NotTrainable(service.name, [f"{error}; these labels and inputs teach it nothing that lasts"]) from error


def _made(
    training: Training,
    service: Service,
    vocabulary: Vocabulary,
    slices: Slices,
    origin: Origin,
    tuned: Tuned,
    fitted: Fitted,
    judged: Judged,
    serving: Model | None,
) -> Made:
    later = slices.later
    held_out = later.features[:: max(len(later) // HELD_OUT, 1)]
    graph = export.graph(fitted, len(service.features))
    export.check(graph, fitted, held_out)
    metadata = msgspec.structs.replace(
        _metadata(training, service, vocabulary, fitted, slices),
        threshold=judged.cuts[OURS],
        trained_on=origin.told | _told(training, tuned, slices, serving),
        simulated=origin.simulated,
        estimator=tuned.best.candidate.name,
        metrics=judged.metrics,
        intervals=judged.intervals,
        confidence=sure.bands(service.features, fitted.importance(service.features), later, judged.scores[OURS]),
        gates=_gates(training, judged, slices, export.microseconds(graph, held_out)),
    )
    scores = {who: score for who, score in judged.scores.items() if who != report.BEST}
    return Made(fitted, metadata, held_out, later.label, scores)


def _metadata(
    training: Training, service: Service, vocabulary: Vocabulary, fitted: Fitted, slices: Slices
) -> card.Metadata:
    inputs, importance = service.features, fitted.importance(service.features)
    defaults = tuple(vocabulary.default(name) for name in inputs)
    missing = sure.degraded(inputs, np.array(defaults), importance, fitted, slices.later, training.seed)
    score = fitted.calibrated(slices.train.features)
    return card.Metadata(
        name=service.name,
        version=datetime.now(UTC).strftime("%Y%m%d%H%M%S"),
        service=service.name,
        alert=service.alert,
        outcome=_outcome(training, service),
        horizon_days=training.horizon_days,
        inputs=inputs,
        threshold=0.0,
        budget=training.budget,
        files={},
        golden=card.Golden([], [], []),
        trained_on={},
        metrics={},
        vocabulary=vocabulary.fingerprint,
        packages={},
        entity=training.entity,
        defaults=defaults,
        importance=importance,
        recommendations=training.recommendations,
        histograms=histograms.of(inputs, slices.train, score),
        missing=missing,
    )


def _outcome(training: Training, service: Service) -> str:
    events = " or ".join(training.label.events)
    return (f"no {events}" if training.label.absent else events) or service.outcome or training.label.column


def _gates(training: Training, judged: Judged, slices: Slices, us_a_row: float) -> tuple[card.Gate, ...]:
    ours, rule, serving = (judged.later(who, slices) for who in (OURS, RULE, SERVING))
    return tuple(gates.passed(training.gates, ours or {}, rule, serving, us_a_row))


def _told(training: Training, tuned: Tuned, slices: Slices, serving: Model | None) -> dict[str, str | int | float]:
    named = {"train": slices.train, "calibrate": slices.between} | {f"judge, {k}": v for k, v in slices.held.items()}
    found: dict[str, str | int | float] = {f"rows to {name}": _rows(of, training.entity) for name, of in named.items()}
    if splits.timeless(slices.later):
        found["time"] = "none"
    settings = msgspec.structs.asdict(tuned.best.candidate)
    chosen = {k: f"{v:g}" for k, v in settings.items() if k not in _NOT_SHOWN}
    if not tuned.best.candidate.forest:
        chosen["learning rate"] = f"{tuned.best.candidate.learning_rate:g}"
    found["settings"] = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in chosen.items())
    found |= {f"only {way} with": ", ".join(names) for way in ("rises", "falls") if (names := getattr(training, way))}
    found["tried"] = _tried(training, tuned)
    found["seed"] = training.seed
    return found | ({"serving version, for comparison": serving.version} if serving else {})


def _tried(training: Training, tuned: Tuned) -> str:
    if not tuned.trials:
        return "nothing: the rows are too few, or of too short a time, for folds"
    best = ", ".join(f"{name} {trial.mean:.4f}" for name, trial in tuned.of_each.items())
    ended = f", then the time was over, before all {training.search.trials}" if tuned.hurried else ""
    folds = f"{len(tuned.best.values)} folds in time order"
    return f"{len(tuned.trials)} settings on {folds}{ended}; best {training.metric}: {best}"


def _rows(of: Examples, entity: str) -> str:
    first, last = (instant(int(at)).date() for at in (of.at.min(), of.at.max()))
    people = len(np.unique(of.person))
    return f"{len(of):,} of {people:,} {entity}s, {int(of.label.sum()):,} with the outcome, {first} to {last}"
