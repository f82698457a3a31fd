"""A version out of what an online challenger has learned from outcomes, held to the same gates as any other.

It was judged on each outcome before it learned it, as the champion was on the same one: those are its held-out rows.
"""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import numpy as np
import sqlalchemy as sa

from feature_repo.declare import Service
from feature_repo.settings import Settings
from flows import database
from flows.learners import challenger_linear
from flows.learners.challenger_linear import Linear as Learner
from flows.learners.example import Place
from flows.learning_tables import learners
from onnx_models import card
from onnx_models.session import Model
from training import export, gates, judge
from training.job import Made
from training.judge import Metrics, Ranked
from training.linear import Linear
from training.model import Training
from training.people import Array
from training.report import OURS, SERVING
from training.validate import NotTrainable

LEAST, EITHER = 500, 30  # outcomes to judge by, and of either label
SET = "latest outcomes"


class NotLearned(ValueError):
    """Nothing was learned of the model, or nobody can tell what."""


def learner(settings: Settings, name: str) -> Learner:
    """As it was last stored. Raises NotLearned."""
    place = learners.c.kind == challenger_linear.KIND, learners.c.model == name
    engine = database.engine(settings.database)
    try:
        with engine.connect() as connection:
            state = connection.execute(sa.select(learners.c.state).where(*place)).scalar()
    except sa.exc.SQLAlchemyError as error:
        raise NotLearned(f"{name}: expected what online learners keep in {settings.database}: {error}") from error
    finally:
        engine.dispose()
    if state is None:
        raise NotLearned(f"{name}: expected outcomes that an online challenger learned from, found none")
    made = Learner(Place(name))
    try:
        made.restore(bytes(state))
    except ValueError as error:
        raise NotLearned(f"{name}: {error}") from error
    return made


def make(of: Learner, training: Training, service: Service, champion: Model) -> Made:
    """Raises NotTrainable, and Differs where ONNX does not answer as River does."""
    lately = of.contest.rows()
    label, theirs, ours = lately[:, 0] > 0.5, lately[:, 1].astype(float), lately[:, 2].astype(float)
    names, rows = of.rows()
    if problems := _problems(service, label, names):
        raise NotTrainable(service.name, problems)
    fitted, cut = Linear(of.line(), service.features), _cut(ours, theirs, champion.threshold)
    onnx_graph = fitted.graph()
    export.check(onnx_graph, fitted, rows)
    measured = judge.measured(Ranked.of(label, ours), cut)
    serving = judge.measured(Ranked.of(label, theirs), champion.threshold)
    slowness = export.microseconds(onnx_graph, np.resize(rows, (4096, rows.shape[1])))
    found = tuple(gates.passed(training.gates, measured, None, serving, slowness))
    metrics = {f"{SET}, {OURS}": measured, f"{SET}, {SERVING}": serving}
    metadata = _metadata(champion.metadata, of, fitted, cut, metrics, found, label)
    return Made(fitted, metadata, rows, label, {OURS: ours, SERVING: theirs})


def _problems(service: Service, label: Array, names: tuple[str, ...]) -> list[str]:
    hits = int(label.sum())
    told = (
        f"expected {LEAST} outcomes that it was judged by, {EITHER} of either label, got {len(label)}, {hits} of them"
    )
    problems = [] if len(label) >= LEAST and min(hits, len(label) - hits) >= EITHER else [f"{told} positive"]
    if names != service.features:
        problems.append(
            f"expected what it learned to be of the service's {len(service.features)} inputs, of {len(names)}"
        )
    return problems


def _cut(ours: Array, theirs: Array, threshold: float) -> float:
    """The score from which on it names as many as the champion does; the champion's own where that names nobody."""
    named = int((theirs >= threshold).sum())
    return float(np.sort(ours)[-named]) if named else max(threshold, float(ours.max()))


def _metadata(
    champion: card.Metadata,
    of: Learner,
    fitted: Linear,
    cut: float,
    metrics: dict[str, Metrics],
    found: tuple[card.Gate, ...],
    label: Array,
) -> card.Metadata:
    told: dict[str, str | int | float] = {
        "outcomes": of.contest.progress.outcomes,
        "rows": f"{of.contest.progress.outcomes:,} outcomes, one after another, {of.contest.progress.hits:,} positive",
        "judged on": f"the latest {len(label):,}, {int(label.sum()):,} positive, each before it was learned",
        "settings": f"steps of {challenger_linear.RATE:g}, an outcome weighs {challenger_linear.POSITIVE:g} x",
        "serving version, for comparison": champion.version,
    }
    return msgspec.structs.replace(
        champion,
        version=datetime.now(UTC).strftime("%Y%m%d%H%M%S"),
        threshold=cut,
        files={},
        golden=card.Golden([], [], []),
        trained_on=told,
        metrics=metrics,
        packages={},
        importance=fitted.importance(),
        histograms={},
        estimator=card.ONLINE,
        intervals={},
        confidence=(),
        missing={},
        gates=found,
    )
