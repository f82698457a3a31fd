"""A file of labels through the training job, as `telltale train NAME --labels` takes it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pandas as pd

from feature_repo.declare import Count, EventType, Feature, Input, Service
from feature_repo.vocabulary import Vocabulary, load
from onnx_models.session import Model
from tests.contracts.replayed import DOMAINS
from training import job, labelled, labels, publish
from training.examples import Examples
from training.job import Made, Origin
from training.model import Search, Training
from training.progress import Progress
from training.training_set import Wanted

QUICK = Search(trials=2, seconds=10.0, folds=2)


class Outcome(msgspec.Struct, frozen=True):
    """What came of a training: what was made, the version's directory, and the rows kept aside."""

    made: Made
    place: Path
    held: Examples

    @property
    def later(self) -> dict[str, float]:
        return self.made.metadata.metrics["later time, ours"]

    @property
    def model(self) -> Model:
        return Model(self.made.metadata, self.place)

    def scores(self) -> np.ndarray:
        """Of the rows kept aside, by the exported graph."""
        return self.model.score(self.held.features)


def trained(
    place: Path, vocabulary: Vocabulary, training: Training, frame: pd.DataFrame, history: Path | None = None
) -> Outcome:
    """Raises what the job raises."""
    service = next(s for s in vocabulary.services if s.name == training.service)
    frame.to_parquet(place / "labels.parquet", index=False)
    wanted = Wanted(history=history or place / "none.jsonl", vocabulary=vocabulary, service=service)
    rows = labelled.examples(wanted, labels.read(place / "labels.parquet"), training, service)
    slices = job.sliced(training, service, rows)
    with Progress() as said:
        made = job.make(training, service, vocabulary, slices, Origin(simulated=False, told={}), said)
    return Outcome(made, publish.write(place / "models", made), slices.later)


def domain(name: str) -> Vocabulary:
    return load(str(DOMAINS / name))


def of_columns(frame: pd.DataFrame, service: str) -> Vocabulary:
    """A domain in which each column of the labels is something that the request gives."""
    names = [name for name in frame.columns if name not in ("user", "as_of", "label")]
    seen = EventType(name="seen", description="was seen")
    count = Count("seen", days=1)
    return Vocabulary(
        SimpleNamespace(  # type: ignore[arg-type]  # a namespace does for a module
            EVENTS=(seen,),
            FEATURES=(Feature(name="seen", unit="events", window="1 d", default=0.0, description="seen", of=count),),
            INPUTS=tuple(Input(name=n, default=float(frame[n].median()), description=n) for n in names),
            SERVICES=(Service(name=service, features=tuple(f"request:{n}" for n in names), description=service),),
        )
    )
