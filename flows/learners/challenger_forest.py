"""An online challenger of one model that is not linear: River's adaptive random forest (Gomes et al., 2017).

A forest learns a row in some 150 us, so it learns a sample: KEPT of the outcomes of either label, by the id alone, and
after EARLY outcomes a quarter of that. What that adds to its log odds is taken off what it says. ASKED of the outcomes
are judged. It stays in the shadow:
trees that change have no ONNX.
"""

from __future__ import annotations

from array import array
from math import isfinite, log
from typing import Any

import msgspec
from river.forest import ARFClassifier
from xxhash import xxh64_intdigest

from flows.learners.contest import Contest
from flows.learners.example import Example, Place
from flows.learners.input_list import InputList
from flows.learners.odds import bounded, logit, sigmoid
from flows.learners.sealed import Sealed
from flows.learners.stored import packed, unpacked

KIND, FORMAT = "challenger_forest", 2
KEPT = (1 / 8, 1.0)  # of the outcomes with label 0, 1
EARLY, LATER = 4_000, 1 / 4  # outcomes; of KEPT after them
OFF = log(KEPT[1] / KEPT[0])  # what that adds to the log odds
ASKED = 1 / 10
SPEAKS = 50  # rows before it says anything
EVERY = 512  # rows between two files
SURE = 0.98  # a leaf of few rows is surer than it can be
_ALL = 1 << 64


class State(msgspec.Struct):
    """`file`: how many times the forest was written; `since`: what it learned since then, as (label, float32 row).

    `seen`: outcomes, learned or not.
    """

    file: int
    seen: int
    since: list[tuple[int, bytes]]
    inputs: InputList
    learned: int
    cannot_unlearn: int
    contest: Contest


class Forest:
    """The learner; see the top of the file. Its state is a file, and the rows that came after it."""

    def __init__(self, place: Place, sealed: Sealed | None = None) -> None:
        self._name, self._sealed = f"forest-{place.model}", sealed or Sealed()
        self._forest: Any = _river()
        self._state = State(0, 0, [], InputList(), 0, 0, Contest())
        self._files: list[int] = []  # there now
        self._asked: list[int] = []  # of the last two states: either may be the one that stands

    @property
    def contest(self) -> Contest:
        return self._state.contest

    def predict(self, example: Example) -> float | None:
        """Nothing of those that it is not asked about."""
        asked = _drawn(example.id, 1) < ASKED
        if not asked or self._state.learned < SPEAKS or example.names != self._state.inputs.names:
            return None
        said = float(self._forest.predict_proba_one(_row(example.names, _packed(example))).get(True, 0.0))
        return bounded(sigmoid(logit(min(max(said, 1 - SURE), SURE)) - OFF))

    def learn(self, example: Example) -> None:
        kept = self._state
        if example.was is not None:
            kept.contest.corrected += 1
            kept.cannot_unlearn += self._takes(example.id, example.was)  # about: it may have been early then
            return
        holds = self._holds(example)
        kept.contest.tell(example, self.predict)
        if not holds:
            return
        kept.seen += 1
        if self._takes(example.id, example.label):
            kept.since.append((example.label, _packed(example)))
            self._learn(*kept.since[-1])
            if len(kept.since) >= EVERY:
                self._write()

    def _takes(self, of: str, label: int) -> bool:
        return _drawn(of, 0) < KEPT[label] * (1.0 if self._state.seen <= EARLY else LATER)

    def _holds(self, example: Example) -> bool:
        """What was learned of another list of inputs says nothing of a new one."""
        kept, before = self._state, self._state.inputs.names
        holds = kept.inputs.holds(example)
        if before and kept.inputs.names != before:
            self._forest, kept.learned = _river(), 0
            self._write()
        return holds

    def _learn(self, label: int, row: bytes) -> None:
        self._forest.learn_one(_row(self._state.inputs.names, row), bool(label))
        self._state.learned += 1

    def _write(self) -> None:
        kept = self._state
        kept.file += 1
        kept.since = []
        self._sealed.write(self._file(kept.file), self._forest)
        self._files.append(kept.file)
        for old in [file for file in self._files[:-1] if file not in self._asked]:
            self._sealed.drop(self._file(old))
            self._files.remove(old)

    def _file(self, number: int) -> str:
        return f"{self._name}.{number}"

    def state(self) -> bytes:
        self._asked = [*self._asked, self._state.file][-2:]
        return packed(KIND, FORMAT, self._state)

    def restore(self, state: bytes) -> None:
        found = unpacked(state, KIND, FORMAT, State)
        self._forest = self._sealed.read(self._file(found.file)) if found.file else _river()
        since, found.since = found.since, []
        found.learned -= len(since)
        self._state, self._files, self._asked = found, [found.file], [found.file]
        for label, row in since:
            self._learn(label, row)
        self._state.since = since

    def report(self) -> dict[str, object]:
        learned = {"learned": self._state.learned, "cannot_unlearn": self._state.cannot_unlearn}
        learned["of_other_inputs"] = self._state.inputs.others
        return self.contest.figures() | learned | {"drifts": self._forest.n_drifts_detected()}


def _drawn(of: str, seed: int) -> float:
    return xxh64_intdigest(of.encode(), seed) / _ALL


def _packed(example: Example) -> bytes:
    return array("f", example.features).tobytes()


def _row(names: tuple[str, ...], row: bytes) -> dict[str, float]:
    values = array("f")
    values.frombytes(row)
    return {name: value for name, value in zip(names, values, strict=True) if isfinite(value)}


def _river() -> Any:
    return ARFClassifier(n_models=3, leaf_prediction="mc", max_depth=6, grace_period=40, seed=1)
