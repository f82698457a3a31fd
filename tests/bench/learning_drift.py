"""Online recalibration on simulated people, before and after a sudden change of what they do; medians of the seeds.

2,000 people of the world that `likely_to_sell` was trained for, each scored once, then 500 of one in which everybody's
plans are five times as many: predicted over observed on 5,000 others of that world, by the frozen model and by what
holds after the 500. Without a change: log loss of what holds, over the champion's, on 5,000 others. `--runs`:
seeds, 20 at least.
"""

from __future__ import annotations

from functools import cache

import msgspec
import numpy as np

from feature_repo import vocabulary
from feature_repo.vocabulary import Vocabulary
from flows.learners.example import Calibration, Example, Place
from flows.learners.recalibration import Recalibration
from flows.plan import Plan
from onnx_models.calibrations import applied
from onnx_models.registry import newest
from onnx_models.session import Model
from tests.bench.options import Options
from tests.bench.result import Result, figure
from training.backfill import stream
from training.dataset import Span, label, rows
from training.people import Array
from training.records import DAY
from training.simulate import simulate
from training.world import FIRST, World

MODEL, OUTCOME, HORIZON = "likely_to_sell", "home_listed", 90
BEFORE, AFTER, FRESH = 2_000, 500, 5_000  # people
SCORED, DAYS = Span(120, 180), 275  # days since the start
SHARE = 0.05  # of the instants at which the stream scores, of which each person's first drawn is taken
FACTOR = 5.0  # of everybody's plans a year, after the change
SEEDS = 20


class Scored(msgspec.Struct, frozen=True):
    """People in the order of their scores: when, what the model said, whether it came about within the horizon."""

    at: Array
    said: Array
    label: Array


class Run(msgspec.Struct, frozen=True):
    """One seed. Predicted over observed after the change; log loss without one, over the champion's."""

    frozen: float
    held: float
    opened: bool
    harm: float


@cache
def _ground() -> tuple[Vocabulary, Model]:
    return vocabulary.load(""), newest(MODEL)


def people(n: int, seed: int, world: World) -> Scored:
    """n people of a world, each scored once."""
    known, model = _ground()
    drawn = n + n // 8  # of some no instant is drawn
    history = simulate(drawn, DAYS, seed, world)
    log, rng = stream(history, known), np.random.default_rng((seed, 1))
    found = rows(Plan(known), log, SCORED, np.arange(drawn), SHARE, rng)
    came = label(known, log, OUTCOME, found, HORIZON)
    _, first = np.unique(found.person, return_index=True)
    some = np.sort(rng.permutation(first)[:n])
    some = some[np.argsort(found.at[some], kind="stable")]
    inputs = [known.feature_index[name] for name in model.inputs]
    return Scored(found.at[some], model.score(found.features[some][:, inputs]).astype(np.float64), came[some])


def changed(world: World, factor: float = FACTOR) -> World:
    plans = tuple(msgspec.structs.replace(plan, yearly=plan.yearly * factor) for plan in world.plans)
    return msgspec.structs.replace(world, plans=plans)


def teach(learner: Recalibration, of: Scored, since: int = 0) -> Recalibration:
    """Each label at the end of its horizon, in the order of the scores. `since`: ms added to the times."""
    for k, (at, said, came) in enumerate(zip(of.at, of.said, of.label, strict=True)):
        example = Example(
            id=f"{since}-{k}",
            organisation="main",
            user=str(k),
            model=MODEL,
            version="1",
            at=int(at) + since,
            raw=float(said),
            score=float(said),
            features=(),
            names=(),
            source="sample",
            label=int(came),
            label_at=int(at) + since + HORIZON * DAY,
        )
        learner.learn(example)
    return learner


def run_once(seed: int, fresh: int = FRESH) -> Run:
    learner = teach(Recalibration(Place(MODEL, "1", "main")), people(BEFORE, 5 * seed + 1, FIRST))
    harm = _harm(people(fresh, 5 * seed + 2, FIRST), learner.calibration())
    teach(learner, people(AFTER, 5 * seed + 3, changed(FIRST)), 60 * DAY)
    others, holds = people(fresh, 5 * seed + 4, changed(FIRST)), learner.calibration()
    observed = others.label.sum()
    held = float(_by(holds, others).sum() / observed)
    return Run(float(others.said.sum() / observed), held, holds is not None, harm)


def _harm(of: Scored, holds: Calibration | None) -> float:
    return _log_loss(of, _by(holds, of)) / _log_loss(of, of.said)


def _by(holds: Calibration | None, of: Scored) -> Array:
    """As the stream applies it."""
    return applied(of.said.astype(np.float32), holds.a, holds.b).astype(np.float64) if holds else of.said


def _log_loss(of: Scored, said: Array) -> float:
    return float(-np.log(np.where(of.label, said, 1 - said)).mean())


def run(options: Options) -> Result:
    found = [run_once(seed) for seed in range(max(options.runs, SEEDS))]
    return Result(
        {
            "predicted_over_observed, frozen": figure([r.frozen for r in found], ""),
            "predicted_over_observed, recalibrated": figure([r.held for r in found], ""),
            "recalibration_held, share": figure([float(np.mean([r.opened for r in found]))], ""),
            "log_loss_without_change, over the champion's": figure([r.harm for r in found], ""),
        }
    )
