"""Tries the candidates' settings on folds in time order, within a budget of trials and seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import msgspec
import numpy as np

from training import fit, judge, splits
from training.examples import Examples
from training.judge import METRICS, Ranked
from training.model import Candidate, Training


class Trial(msgspec.Struct, frozen=True):
    """One candidate's settings, and what the folds gave; NaN without folds."""

    candidate: Candidate
    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return float(np.mean(self.values)) if self.values else float("nan")


class Tuned(msgspec.Struct, frozen=True):
    """The best trial, all of them in order, and whether the seconds were over first."""

    best: Trial
    trials: tuple[Trial, ...]
    hurried: bool = False
    sign: int = 1  # -1 where lower is better

    @property
    def of_each(self) -> dict[str, Trial]:
        """The best trial of each candidate, the chosen one first."""
        return {self.best.candidate.name: self.best} | {
            name: max((t for t in self.trials if t.candidate.name == name), key=lambda t: t.mean * self.sign)
            for name in {t.candidate.name: 0 for t in self.trials}
            if name != self.best.candidate.name
        }


def tune(training: Training, rows: Examples, said: Callable[[int, int], None]) -> Tuned:
    """The candidate and settings with the best mean of `training.metric` over the folds; the same by seed.

    Each candidate's own settings come first, then draws of its `search`, which must beat them by more than a standard
    error over the folds: the best of many draws is in part the luckiest. Seconds end it between two trials, so on a
    slow machine fewer are tried. `said(done, of)` is called after each. Where time is too short for folds the first
    candidate is taken as it stands.
    """
    some = rows.those(np.arange(0, len(rows), -(-len(rows) // training.search.rows)))
    folds = splits.folds(some, training.horizon_days, training.search.folds, cases=training.cases)
    trials: list[Trial] = []
    deadline = time.monotonic() + training.search.seconds
    wanted = _asked(training) if folds else []
    for candidate in wanted:
        if trials and time.monotonic() > deadline:
            break
        trials.append(Trial(candidate, tuple(_tried(training, candidate, some, *fold) for fold in folds)))
        said(len(trials), len(wanted))
    if not trials:
        return Tuned(Trial(training.candidates[0], ()), ())
    sign = 1 if METRICS[training.metric] else -1
    best = max(_sure(trials, sign), key=lambda trial: trial.mean * sign)
    return Tuned(best, tuple(trials), len(trials) < len(wanted), sign)


def _sure(trials: list[Trial], sign: int) -> list[Trial]:
    """Each candidate's own settings, and the draws that beat them by more than chance."""
    own: dict[str, Trial] = {}
    for trial in trials:
        own.setdefault(trial.candidate.name, trial)
    return [t for t in trials if t is own[t.candidate.name] or _beats(t, own[t.candidate.name], sign)]


def _beats(one: Trial, other: Trial, sign: int) -> bool:
    apart = (np.array(one.values) - np.array(other.values)) * sign
    error = apart.std(ddof=1) / np.sqrt(len(apart)) if len(apart) > 1 else 0.0
    return bool(apart.mean() > error)


def _asked(training: Training) -> list[Candidate]:
    """What to try, in order: never the same twice."""
    found: list[Candidate] = []
    for candidate in _drawn(training):
        if candidate not in found:
            found.append(candidate)
    return found


def _drawn(training: Training) -> Iterator[Candidate]:
    rng = np.random.default_rng(training.seed)
    yield from training.candidates
    for nth in range(training.search.trials - len(training.candidates)):
        candidate = training.candidates[nth % len(training.candidates)]
        yield candidate.with_({name: float(rng.choice(values)) for name, values in candidate.search.items()})


def _tried(training: Training, candidate: Candidate, rows: Examples, learn: np.ndarray, trial: np.ndarray) -> float:
    booster = fit.grow(candidate, rows.features[learn], rows.label[learn], training.seed)
    score = fit.sigmoid(fit.margin(booster, rows.features[trial]))
    return judge.measured(Ranked.of(rows.label[trial], score), 0.5)[training.metric]
