"""A challenger beside the champion: what each said of the same outcomes, over time and lately."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from flows.learners.example import Example
from flows.learners.odds import bounded
from flows.learners.progress import Progress

LATELY = 2_000  # outcomes, at least, that a gate judges by
WHO = ("champion", "challenger")


class Contest(msgspec.Struct):
    """`lately`: label, champion's and challenger's probability of the latest outcomes: float32 in a row."""

    progress: Progress = msgspec.field(default_factory=lambda: Progress(WHO))
    lately: bytes = b""
    corrected: int = 0

    def tell(self, example: Example, predict: Callable[[Example], float | None]) -> None:
        """What it said when the score was made counts; where that is not known, what it says before it learns."""
        said = example.predicted if example.predicted is not None else predict(example)
        if said is None:
            return
        self.progress.tell(example.label_at, example.label, example.raw, said)
        self.lately += array("f", (example.label, bounded(example.raw), bounded(said))).tobytes()
        if len(self.lately) >= 24 * LATELY:
            self.lately = self.lately[-12 * LATELY :]

    def rows(self) -> np.ndarray[Any, Any]:
        """(n, 3) float32 of the latest outcomes: label, champion's and challenger's probability; oldest first."""
        return np.frombuffer(self.lately, np.float32).reshape(-1, 3)

    def figures(self) -> dict[str, object]:
        return {
            "outcomes": self.progress.outcomes,
            "positive": self.progress.hits,
            "corrected": self.corrected,
            "total": self.progress.total(),
            "progress": self.progress.figures(),
        }
