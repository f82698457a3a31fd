"""Every online learner: add yours here."""

from __future__ import annotations

from flows.learners.challenger_forest import Forest
from flows.learners.challenger_linear import Linear
from flows.learners.drift import Drift
from flows.learners.example import Kind
from flows.learners.recalibration import Recalibration

KINDS: tuple[Kind, ...] = (
    Kind("recalibration", "organisation", Recalibration),
    Kind("challenger_linear", "model", Linear),
    Kind("challenger_forest", "model", Forest),
    Kind("drift", "model", Drift),
)
