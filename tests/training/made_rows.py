"""Made rows for any model: a file of labels with a column for each input, some of them empty."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa

from feature_repo.declare import Service
from feature_repo.finish import DAY
from feature_repo.vocabulary import Vocabulary
from training import labelled
from training.examples import Examples
from training.labels import AS_OF, USER, Labels
from training.model import Search, Training
from training.training_set import Wanted

START = 1_700_000_000_000
QUICK = Search(trials=1, folds=2)
MISSING = 0.1


def quick(training: Training) -> Training:
    """The same model with few trees and one setting."""
    few = tuple(msgspec.structs.replace(c, trees=12, rows_a_leaf=5.0) for c in training.candidates)
    return msgspec.structs.replace(training, candidates=few, search=QUICK)


def table(training: Training, service: Service, rows: int = 600, seed: int = 1) -> pa.Table:
    """Rows over six horizons whose label three inputs move, as the model's file lets them; some cells are empty."""
    rng = np.random.default_rng(seed)
    values = rng.gamma(1.5, 1.0, (rows, len(service.features)))
    ways = dict.fromkeys(training.rises, 1) | dict.fromkeys(training.falls, -1)
    moves = [ways.get(name, usual) for name, usual in zip(service.features, (1, 1, -1), strict=False)]
    odds = (values[:, :3] - 1.5) @ moves + 0.5
    label = rng.random(rows) < 1 / (1 + np.exp(-1.5 * odds))
    values[rng.random(values.shape) < MISSING] = np.nan
    days = np.sort(rng.random(rows)) * 6 * training.horizon_days
    columns = {
        USER: pa.array([f"u{i}" for i in (np.arange(rows) if training.cases else rng.integers(0, rows // 3, rows))]),
        AS_OF: pa.array(((START + days * DAY) * 1000).astype(np.int64), pa.timestamp("us", tz="UTC")),
        training.label.column: pa.array(label.astype(np.int8)),
    }
    return pa.table(columns | {n: pa.array(values[:, i], from_pandas=True) for i, n in enumerate(service.features)})


def examples(place: Path, vocabulary: Vocabulary, training: Training, service: Service, of: pa.Table) -> Examples:
    """The table's rows; nothing of these people is in the history."""
    history = place / "history.jsonl"
    moment = "2020-01-01T00:00:00Z"
    history.write_bytes(msgspec.json.encode({"type": "identify", "userId": "nobody", "timestamp": moment}) + b"\n")
    wanted = Wanted(history=history, vocabulary=vocabulary, service=service)
    return labelled.examples(wanted, Labels(of), training, service)
