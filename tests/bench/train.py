"""`seconds`: an alert model from 100,000 labelled rows of a simulated history to a version on disk, all steps."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from feature_repo.vocabulary import Vocabulary
from tests.bench.options import Options
from tests.bench.result import Result, figure
from training import asked, job, labelled, publish
from training.backfill import stream
from training.catalogue import MODELS
from training.job import Origin
from training.past import Past
from training.progress import Progress
from training.simulate import simulate
from training.training_set import Wanted, service_of

ROWS = 100_000
PEOPLE, DAYS = 8_000, 780
NAME = "likely_to_sell"


def run(options: Options) -> Result:
    vocabulary = Vocabulary()
    of = Past(stream(simulate(PEOPLE, DAYS, seed=1), vocabulary), pa.array(np.arange(PEOPLE).astype(str)))
    found = [_trained(of, vocabulary) for _ in range(options.runs)]
    seconds, trials, auc = zip(*found, strict=True)
    return Result(
        {
            "seconds": figure(seconds, "s"),
            "rows": figure([ROWS], "rows"),
            "settings_tried": figure(trials, "settings"),
            "roc_auc": figure(auc, "on later time"),
        }
    )


def _trained(of: Past, vocabulary: Vocabulary) -> tuple[float, float, float]:
    service, training, steps = service_of(vocabulary, NAME), MODELS[NAME], _Steps()
    with tempfile.TemporaryDirectory() as directory:
        wanted = Wanted(history=Path(directory) / "none.jsonl", vocabulary=vocabulary, service=service)
        started = time.perf_counter()
        rows = labelled.examples(wanted, asked.asked(of, wanted, training, service, ROWS), training, service, of)
        origin = Origin(simulated=True, told={})
        made = job.make(training, service, vocabulary, job.sliced(training, service, rows), origin, steps)
        publish.write(Path(directory), made)
        seconds = time.perf_counter() - started
    return seconds, float(steps.tried), made.metadata.metrics["later time, ours"]["ROC-AUC"]


class _Steps(Progress):
    """Counts the settings that were tried."""

    tried = 0

    def step(self, step: str, done: int = 0, of: int = 1) -> None:
        if step == "tune":
            self.tried = done
