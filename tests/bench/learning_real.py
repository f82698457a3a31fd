"""Online learners on whole public streams in `../shared/data`, beside River's own loop and saying the label before.

Each is asked of a row, then told its label. `river`: `evaluate.progressive_val_score` of the same model; `no_change`:
accuracy of the label before; `share`: log loss of saying the share so far. Accuracy is at a probability of 0.5 of the
model as it is, in which an outcome weighs five times as much; `corrected`: of what the challenger says. It is never
surer than 1e-6: where River is, log loss differs.
"""

from __future__ import annotations

import sys
from math import log

from flows.learners import challenger_linear
from flows.learners.challenger_linear import POSITIVE, Linear
from flows.learners.drift import Drift
from flows.learners.example import Place
from tests.bench.options import Options
from tests.bench.result import Figure, Result, figure
from tests.contracts.real_streams import STREAMS, Rows, asked, measured, no_change, river_loop, told
from tests.contracts.replayed import DATA
from tests.contracts.rivers_models import linear

PLACE = Place("a_model", "20260101000000", "main")


def run(options: Options) -> Result:
    if not DATA.is_dir():
        sys.exit(f"bench learning-real: expected the public data sets in {DATA}, which are not part of the project")
    challenger_linear.SPEAKS = 0  # from the first row on, as River's loop
    figures: dict[str, Figure] = {}
    river: dict[str, Figure] = {}
    plain: dict[str, Figure] = {}
    for name, stream in STREAMS.items():
        rows = stream(None)
        learner, examples = Linear(PLACE), asked(rows)
        said = list(told(learner, examples))
        as_it_is, theirs = measured(said, off=log(POSITIVE)), river_loop(rows, linear())
        corrected = measured(said)
        figures |= _of(name, log_loss=as_it_is.log_loss, roc_auc=as_it_is.roc_auc, accuracy=as_it_is.accuracy)
        figures |= _of(name, log_loss_corrected=corrected.log_loss, accuracy_corrected=corrected.accuracy)
        figures |= _of(name, rows=len(rows), drift_alarms=_alarms(rows))
        river |= _of(name, log_loss=theirs.log_loss, roc_auc=theirs.roc_auc, accuracy=theirs.accuracy)
        share = measured([(e.raw, e.label) for e in examples])
        plain |= _of(name, accuracy_no_change=no_change(rows), log_loss_share=share.log_loss)
    return Result(figures, {"River": river, "baseline": plain})


def _alarms(rows: Rows) -> int:
    learner = Drift(PLACE)
    for example in asked(rows):
        learner.learn(example)
    return len(learner.detectors.alarms)


def _of(stream: str, **values: float) -> dict[str, Figure]:
    return {f"{stream} {name}": figure([value], "") for name, value in values.items()}
