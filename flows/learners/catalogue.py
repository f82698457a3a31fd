"""Every online learner: add yours here."""

from __future__ import annotations

from flows.learners.drift import Drift
from flows.learners.example import Kind
from flows.learners.recalibration import Recalibration

KINDS: tuple[Kind, ...] = (
    Kind("recalibration", "organisation", Recalibration),
    Kind("drift", "model", Drift),
)
