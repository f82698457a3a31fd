"""The online learners of one process, and what holds of what they learned."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import Any

import msgspec

from flows.learners.example import Calibrating, Calibration, Kind, Learner, Place
from flows.learning_joins import First, Step
from flows.learning_rows import Line, Row
from flows.learning_store import LearningStore, Snapshot
from flows.running import say

Key = tuple[str, Place]


class Learned:
    """`seq`: the last line of the journal that all of them have learned."""

    def __init__(self, kinds: Sequence[Kind]) -> None:
        self.seq = 0
        self._kinds = {kind.name: kind for kind in kinds}
        self._learners: dict[Key, Learner] = {}
        self._changed = set[Key]()
        self.reports: dict[Key, dict[str, Any]] = {}  # as of the last snapshots

    def restore(self, store: LearningStore) -> None:
        """From the snapshots, and the journal since each; who has none, or one that it cannot read, learns it all."""
        kept = store.snapshots()  # all as of the latest of them: who is not in the last had learned nothing since
        since = max((one.seq for one in kept), default=0)
        self.reports = {(one.kind, one.place): msgspec.json.decode(one.report) for one in kept}
        whole = {one.kind for one in kept} & set(self._kinds)
        again = {(one.kind, one.place) for one in kept if one.kind in whole and not self._restored(one)}
        afresh = bool(again) or whole != set(self._kinds)
        for seq, line in store.journal(0 if afresh else since):
            keys = {name: (name, kind.place(line.example())) for name, kind in self._kinds.items()}
            self._learn(line, {n for n, key in keys.items() if seq > since or n not in whole or key in again})
        self.seq = store.head()

    def _restored(self, one: Snapshot) -> bool:
        learner = self._learners[one.kind, one.place] = self._kinds[one.kind].make(one.place)
        try:
            learner.restore(one.state)
        except ValueError as error:
            say(f"{one.kind} of {one.place} learns all again: {error}")
            self._learners[one.kind, one.place] = self._kinds[one.kind].make(one.place)
            return False
        return True

    # -- steps

    def take(self, steps: Iterable[Step]) -> list[Line]:
        """Predicts what is seen first, learns what is labelled; returns the lines of the journal, in their order."""
        lines = []
        for step in steps:
            if isinstance(step, First):
                self._predict(step.row)
            else:
                self._learn(step)
                lines.append(step)
        self.seq += len(lines)
        return lines

    def _predict(self, row: Row) -> None:
        example = row.example()
        for name, kind in self._kinds.items():
            row.predicted[name] = self._of(name, kind.place(example)).predict(example)

    def _learn(self, line: Line, only: Container[str] | None = None) -> None:
        example, predicted = line.example(), line.row.predicted
        for name, kind in self._kinds.items():
            if only is not None and name not in only:
                continue
            place = kind.place(example)
            learner = self._of(name, place)
            said = predicted[name] if name in predicted else learner.predict(example)
            learner.learn(msgspec.structs.replace(example, predicted=said))
            self._changed.add((name, place))

    def _of(self, name: str, place: Place) -> Learner:
        learner = self._learners.get((name, place))
        if learner is None:
            learner = self._learners[name, place] = self._kinds[name].make(place)
        return learner

    # -- what is kept and told

    def snapshots(self) -> list[Snapshot]:
        """Of those that learned since the last."""
        changed, self._changed = sorted(self._changed), set()
        return [self._snapshot(name, place) for name, place in changed]

    def _snapshot(self, name: str, place: Place) -> Snapshot:
        learner = self._learners[name, place]
        report = msgspec.json.encode(learner.report())
        self.reports[name, place] = msgspec.json.decode(report)
        return Snapshot(name, place, self.seq, learner.state(), report.decode())

    def calibrations(self) -> dict[Place, Calibration | None]:
        """What should hold, of every learner that says so."""
        found = {}
        for (name, place), learner in self._learners.items():
            if isinstance(learner, Calibrating) and self._kinds[name].scope == "organisation":
                found[place] = learner.calibration()
        return found
