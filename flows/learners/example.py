"""What learners learn from, and what a learner is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol, runtime_checkable

import msgspec

Source = Literal["alert", "prediction", "sample"]
Scope = Literal["model", "version", "organisation"]  # one learner a model; a version of it; a version and organisation


class Example(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A score as it was told, and what became of it. Times: ms since 1970; `at`: when it was scored; `until`: the end
    of its horizon, before which nobody knows of a 0 unless it is told (0: it has none).

    `raw`: the model's own calibrated probability, before any online calibration: what (a, b) are applied to. `score`:
    as told, after calibration number `calibration` (0: the model's own, then `score` is `raw`). `features`: as scored,
    in the order of `names`. `label`: 1 it came about, 0 it did not; as of `label_at`. `revision`: 0 when it is told
    first; a correction counts up and says what was learned before in `was`. `predicted`: what this learner said when
    the score was first seen, before later labels were learned (None: it was not asked, or knew nothing).
    """

    id: str
    organisation: str
    user: str
    model: str
    version: str
    at: int
    raw: float
    score: float
    features: tuple[float, ...]
    names: tuple[str, ...]
    source: Source
    until: int = 0
    calibration: int = 0
    withheld: bool = False
    label: int = 0
    label_at: int = 0
    revision: int = 0
    was: int | None = None
    predicted: float | None = None


class Place(msgspec.Struct, frozen=True, order=True):
    """What one learner is of; empty where its scope does not tell apart."""

    model: str
    version: str = ""
    organisation: str = ""


class Calibration(msgspec.Struct, frozen=True):
    """p = sigmoid(a * logit(raw) + b), and why it should hold (one line for the registry's history)."""

    a: float
    b: float
    why: str = ""


class Learner(Protocol):
    """Of one place. The same examples in the same order give the same `state`, whatever was restored in between."""

    def predict(self, example: Example) -> float | None:
        """What it makes of a score whose label is not known (`label` says nothing). Changes nothing."""

    def learn(self, example: Example) -> None:
        """Learns a label; of a correction (`was`) it takes back what it can."""

    def state(self) -> bytes:
        """All that it knows."""

    def restore(self, state: bytes) -> None:
        """Goes on from a state. Raises ValueError for one that it cannot read: then it learns all again."""

    def report(self) -> dict[str, object]:
        """Figures for people: JSON."""


@runtime_checkable
class Calibrating(Protocol):
    """A learner of the scope `organisation` whose gate says whether its calibration should hold now."""

    def calibration(self) -> Calibration | None:
        """None: the model's own should hold."""


class Kind(msgspec.Struct, frozen=True):
    """One line of the catalogue."""

    name: str
    scope: Scope
    make: Callable[[Place], Learner]

    def place(self, example: Example) -> Place:
        """Which of its learners an example belongs to."""
        if self.scope == "model":
            return Place(example.model)
        return Place(example.model, example.version, example.organisation if self.scope == "organisation" else "")
