"""`events_per_s_core`: a simulated year of 100,000 people through the window code, features at instants."""

from __future__ import annotations

import time

import numpy as np

from feature_repo.vocabulary import Vocabulary
from flows.plan import Plan
from tests.bench.options import Options
from tests.bench.result import Result, figure
from training.backfill import Stream, features, stream
from training.dataset import Span, instants
from training.simulate import simulate

PEOPLE, DAYS = 100_000, 365
INSTANTS = 5  # a person, on average: as many rows as a study of this size trains on


def run(options: Options) -> Result:
    vocabulary = Vocabulary()
    of = stream(simulate(PEOPLE, DAYS, seed=1), vocabulary)
    person, at = _sampled(of)
    speeds = [_speed(Plan(vocabulary), of, person, at) for _ in range(options.runs)]
    return Result({"events_per_s_core": figure(speeds, "events/s of CPU time"), "rows": figure([len(at)], "rows")})


def _sampled(of: Stream) -> tuple[np.ndarray, np.ndarray]:
    person, at = instants(of, Span(90, DAYS), np.arange(PEOPLE))
    rng = np.random.default_rng(1)
    last = np.append(person[1:] != person[:-1], True)  # so that every event is worked
    kept = last | (rng.random(len(at)) < INSTANTS * PEOPLE / len(at))
    return person[kept], at[kept]


def _speed(plan: Plan, of: Stream, person: np.ndarray, at: np.ndarray) -> float:
    """Events worked a second of this process's CPU time, evaluation included."""
    started = time.process_time()
    features(plan, of, person, at)
    spent = time.process_time() - started
    ends = np.full(of.people, -1)
    np.maximum.at(ends, person, at)
    return float((of.now <= ends[of.person]).sum()) / spent
