"""Public streams of labelled rows, in the order in which they came, and River's own loop over them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pandas as pd
from river import evaluate
from river import metrics as river_metrics

from flows.learners.example import Example, Learner
from flows.learners.odds import logit, sigmoid
from tests.contracts.replayed import DATA, table

metrics: Any = river_metrics  # which have types in part
Rows = list[tuple[dict[str, float], bool]]


def electricity(rows: int | None = None) -> Rows:
    """NSW's market (Harries, 1999): whether the price goes up, each half hour."""
    return _rows(table("drift_elec2", "elec.csv.gz", nrows=rows), "class", lambda label: label > 0)


def phishing(rows: int | None = None) -> Rows:
    return _rows(table("river_bundled", "phishing.csv.gz", nrows=rows), "is_phishing", lambda label: label > 0)


def banana(rows: int | None = None) -> Rows:
    """Two coordinates, in LIBSVM's format."""
    named = {"header": None, "names": ["label", "x", "y"], "sep": " ", "usecols": [0, 1, 2], "compression": None}
    with _zipped("banana.zip", "banana.all.txt") as file:
        found = pd.read_csv(file, nrows=rows, **named)
    for column in ("x", "y"):
        found[column] = found[column].str.partition(":")[2].astype(float)
    return _rows(found, "label", lambda label: label > 0)


def segments(rows: int | None = None) -> Rows:
    """Pieces of outdoor pictures: the sky, or not."""
    return _rows(table("river_bundled", "segment.csv.zip", nrows=rows), "category", lambda label: label == "sky")


def flares(rows: int | None = None) -> Rows:
    """Whether a region of the sun has a flare of class C within a day; letters as numbers."""
    found = table("river_bundled", "solar-flare.csv.zip", nrows=rows)
    texts = found.select_dtypes(exclude="number")
    found[texts.columns] = texts.apply(lambda column: column.astype("category").cat.codes.astype(float))
    return _rows(found.drop(columns=["m-class-flares", "x-class-flares"]), "c-class-flares", lambda label: label > 0)


def approval(rows: int | None = None) -> Rows:
    """Whether the president's approval is above 40 %, by five polls."""
    found = table("river_bundled", "trump_approval.csv.gz", nrows=rows)
    return _rows(found, "five_thirty_eight", lambda label: label > 40)


def chicks(rows: int | None = None) -> Rows:
    """Whether a chick weighs more than 100 g."""
    return _rows(table("river_bundled", "chick-weights.csv", nrows=rows), "weight", lambda label: label > 100)


STREAMS: dict[str, Callable[[int | None], Rows]] = {
    "electricity": electricity,
    "phishing": phishing,
    "banana": banana,
    "segments": segments,
    "flares": flares,
    "approval": approval,
    "chicks": chicks,
}


def _zipped(archive: str, file: str) -> Any:
    import zipfile

    table("river_bundled", "phishing.csv.gz", nrows=1)  # skips where the sets are not at hand
    return zipfile.ZipFile(DATA / "river_bundled" / archive).open(file)


def _rows(found: pd.DataFrame, label: str, holds: Callable[[Any], bool]) -> Rows:
    """In float32, as features are."""
    features = found.drop(columns=[label])
    names = list(features.columns)
    values = features.to_numpy(np.float32).astype(float)
    return [(dict(zip(names, row, strict=True)), bool(holds(y))) for row, y in zip(values, found[label], strict=True)]


def asked(rows: Rows) -> list[Example]:
    """The rows as examples of a champion that always says the share so far."""
    hits, made = 1.0, []
    for k, (x, label) in enumerate(rows):
        share = hits / (k + 2)
        hits += label
        made.append(
            Example(
                id=f"row-{k}",
                organisation="main",
                user=f"u{k}",
                model="a_model",
                version="20260101000000",
                at=k,
                raw=share,
                score=share,
                features=tuple(x.values()),
                names=tuple(x),
                source="prediction",
                label=int(label),
                label_at=k,
            )
        )
    return made


def told(learner: Learner, examples: Sequence[Example], delay: int = 0) -> Iterator[tuple[float | None, int]]:
    """(prediction, label): asked at its row, its label told `delay` rows later."""
    waiting: deque[Example] = deque()
    for example in examples:
        while waiting and waiting[0].at + delay <= example.at:
            yield _learn(learner, waiting.popleft(), delay)
        waiting.append(msgspec.structs.replace(example, predicted=learner.predict(example)))
    while waiting:
        yield _learn(learner, waiting.popleft(), delay)


def _learn(learner: Learner, example: Example, delay: int) -> tuple[float | None, int]:
    learner.learn(msgspec.structs.replace(example, label_at=example.at + delay))
    return example.predicted, example.label


class Scores(msgspec.Struct):
    """Progressive metrics, by River."""

    log_loss: float
    roc_auc: float
    accuracy: float


def river_loop(rows: Rows, model: Any, delay: int = 0) -> Scores:
    """`evaluate.progressive_val_score` on the same rows."""
    metric = metrics.LogLoss() + metrics.ROCAUC(n_thresholds=50) + metrics.Accuracy()
    loop: Any = evaluate.progressive_val_score
    loop(rows, model, metric, delay=delay or None)
    return Scores(*(each.get() for each in metric))


def measured(said: Sequence[tuple[float | None, int]], off: float = 0.0) -> Scores:
    """The same metrics of what a learner said. `off`: log odds that it took off what its River model says."""
    metric = metrics.LogLoss() + metrics.ROCAUC(n_thresholds=50) + metrics.Accuracy()
    for p, label in said:
        if p is not None:
            odds = sigmoid(logit(p) + off)
            metric.update(bool(label), {True: odds, False: 1.0 - odds})
    return Scores(*(each.get() for each in metric))


def no_change(rows: Rows) -> float:
    """Accuracy of saying the label before."""
    labels = [label for _, label in rows]
    return sum(a == b for a, b in pairwise(labels)) / max(len(labels) - 1, 1)
