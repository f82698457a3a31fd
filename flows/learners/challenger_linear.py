"""An online challenger of one model that can take its place: River's logistic regression on scaled features.

It learns every outcome. Outcomes are rare, so each weighs POSITIVE times as much, which adds log(POSITIVE) to the log
odds; what it says is without it. Being linear it is a version like any other (training/online.py exports it).
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from math import isfinite, log
from typing import Any

import msgspec
import numpy as np
from river.linear_model import LogisticRegression
from river.optim import SGD
from river.optim.losses import Log
from river.preprocessing import StandardScaler
from river.utils import VectorDict

from flows.learners.contest import Contest
from flows.learners.example import Example, Place
from flows.learners.input_list import InputList
from flows.learners.odds import bounded, logit, sigmoid
from flows.learners.stored import packed, unpacked

KIND, FORMAT = "challenger_linear", 2
POSITIVE = 5.0  # how much an outcome weighs that came about
RATE, LEVEL_RATE = 0.001, 0.01  # of the weights, of the intercept
SPEAKS = 50  # outcomes before it says anything
ROWS, EVERY = 64, 10  # rows kept to prove an export by: of so many outcomes one


class Line(msgspec.Struct, frozen=True):
    """Log odds = intercept + sum of weight * (x - mean) / deviation, of which `prior` is to be taken off."""

    names: tuple[str, ...]
    weights: tuple[float, ...]
    means: tuple[float, ...]
    deviations: tuple[float, ...]
    intercept: float
    prior: float = log(POSITIVE)

    def folded(self, inputs: Sequence[str]) -> tuple[np.ndarray[Any, Any], float]:
        """(inputs,) float64 weights of the features as they come, in that order, and the intercept."""
        of = {
            name: (weight / deviation if deviation else 0.0, mean)
            for name, weight, mean, deviation in zip(self.names, self.weights, self.means, self.deviations, strict=True)
        }
        weights = np.array([of.get(name, (0.0, 0.0))[0] for name in inputs])
        return weights, self.intercept - sum(weight * mean for weight, mean in (of[n] for n in inputs if n in of))


class State(msgspec.Struct):
    """As it is stored: River's numbers by input, the contest, and some rows (float32) in the order of `inputs`."""

    counts: dict[str, int]
    means: dict[str, float]
    variances: dict[str, float]
    weights: dict[str, float]
    intercept: float
    steps: int
    inputs: InputList
    rows: bytes
    contest: Contest


class Linear:
    """The learner; see the top of the file."""

    def __init__(self, place: Place) -> None:
        self._scaler: Any = StandardScaler()
        self._model: Any = _river()
        self._inputs = InputList()
        self._rows = b""
        self.contest = Contest()

    def predict(self, example: Example) -> float | None:
        if self._model.optimizer.n_iterations < SPEAKS:
            return None
        return self._said(_features(example))

    def _said(self, x: dict[str, float]) -> float:
        odds = float(self._model.predict_proba_one(self._scaler.transform_one(x))[True])
        return bounded(sigmoid(logit(odds) - log(POSITIVE)))

    def learn(self, example: Example) -> None:
        x = _features(example)
        if example.was is not None:
            self._correct(example, x)
            return
        self.contest.tell(example, self.predict)
        self._scaler.learn_one(x)
        self._model.learn_one(self._scaler.transform_one(x), bool(example.label))
        self._keep(example)

    def _correct(self, example: Example, x: dict[str, float]) -> None:
        """The step that the wrong label led to, back; that of the right one. Scales and figures stay as they are."""
        self.contest.corrected += 1
        if example.was is None or example.was == example.label:
            return
        scaled = self._scaler.transform_one(x)
        self._model.learn_one(scaled, bool(example.was), w=-1.0)
        self._model.learn_one(scaled, bool(example.label))

    def _keep(self, example: Example) -> None:
        """Of one list; of the others it learns all the same, by name."""
        before = self._inputs.names
        holds = self._inputs.holds(example)
        if self._inputs.names != before:
            self._rows = b""
        if holds and self._inputs.held % EVERY == 0:
            row = array("f", example.features).tobytes()
            self._rows = (self._rows + row)[-ROWS * len(row) :]

    # -- what it keeps

    def state(self) -> bytes:
        scaler, model = self._scaler, self._model
        weights, steps = dict(model.weights), model.optimizer.n_iterations
        numbers = (dict(scaler.counts), dict(scaler.means), dict(scaler.vars), weights, model.intercept, steps)
        return packed(KIND, FORMAT, State(*numbers, self._inputs, self._rows, self.contest))

    def restore(self, state: bytes) -> None:
        found = unpacked(state, KIND, FORMAT, State)
        row = max(4 * len(found.inputs.names), 1)
        if found.contest.progress.who != Contest().progress.who or len(found.rows) % row:
            raise ValueError("expected whole rows and the figures of two, got others")
        self._scaler = StandardScaler()
        for mine, kept in (("counts", found.counts), ("means", found.means), ("vars", found.variances)):
            getattr(self._scaler, mine).update(kept)
        self._model = _river()
        self._model._weights = VectorDict(found.weights)  # noqa: SLF001  # River has no way to begin from weights
        self._model.intercept, self._model.optimizer.n_iterations = found.intercept, found.steps
        self._inputs, self._rows, self.contest = found.inputs, found.rows, found.contest

    def report(self) -> dict[str, object]:
        """With the ten heaviest weights, each of a standard deviation."""
        heavy = sorted(self._model.weights.items(), key=lambda item: -abs(item[1]))[:10]
        own = {"weights": dict(heavy), "positive_weight": POSITIVE, "of_other_inputs": self._inputs.others}
        return self.contest.figures() | own

    # -- what an export takes

    def line(self) -> Line:
        """What it has learned."""
        weights = dict(self._model.weights)
        names = tuple(sorted(weights))
        means, variances = self._scaler.means, self._scaler.vars
        return Line(
            names,
            tuple(weights[name] for name in names),
            tuple(means[name] for name in names),
            tuple(variances[name] ** 0.5 for name in names),
            self._model.intercept,
        )

    def rows(self) -> tuple[tuple[str, ...], np.ndarray[Any, Any]]:
        """The inputs' names, and some of the latest rows: float32 (n, inputs)."""
        names = self._inputs.names
        return names, np.frombuffer(self._rows, np.float32).reshape(-1, max(len(names), 1))


def _features(example: Example) -> dict[str, float]:
    """What is known; River goes by what there is."""
    given = zip(example.names, example.features, strict=True)
    if isfinite(sum(example.features)):  # the usual way, a third of the time
        return dict(given)
    return {name: x for name, x in given if isfinite(x)}


def _river() -> Any:
    return LogisticRegression(SGD(RATE), loss=Log(weight_pos=POSITIVE), intercept_lr=LEVEL_RATE)
