"""A challenger beside the champion: what each said of the same outcomes, over time and lately."""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any

import msgspec
import numpy as np

from flows.learners.example import Example
from flows.learners.odds import bounded
from flows.learners.progress import Progress

LATELY = 2_000  # outcomes, at least, that a gate judges by
WHO = ("champion", "challenger")
_ROW = Struct("<3f")


class Contest(msgspec.Struct):
    """`lately`: label, champion's and challenger's probability of the latest outcomes: float32 in a row."""

    progress: Progress = msgspec.field(default_factory=lambda: Progress(WHO))
    lately: bytearray = msgspec.field(default_factory=bytearray)
    corrected: int = 0

    def tell(self, example: Example, predict: Callable[[Example], float | None]) -> None:
        """What it said when the score was made counts; where that is not known, what it says before it learns."""
        said = example.predicted if example.predicted is not None else predict(example)
        if said is None:
            return
        self.progress.tell(example.label_at, example.label, example.raw, said)
        self.lately += _ROW.pack(example.label, bounded(example.raw), bounded(said))
        if len(self.lately) >= 2 * _ROW.size * LATELY:
            del self.lately[: -_ROW.size * LATELY]

    def rows(self) -> np.ndarray[Any, Any]:
        """(n, 3) float32 of the latest outcomes: label, champion's and challenger's probability; oldest first."""
        return np.frombuffer(bytes(self.lately), "<f4").reshape(-1, 3)

    def figures(self) -> dict[str, object]:
        return {
            "outcomes": self.progress.outcomes,
            "positive": self.progress.hits,
            "corrected": self.corrected,
            "total": self.progress.total(),
            "progress": self.progress.figures(),
        }
