"""Answered predictions, from their stream into the lake's files: `predictions/date=.../`, a column an input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import redis

from feature_repo import keys
from feature_repo.declare import Array
from flows.lake_drain import Drain, Read, Stream
from flows.lake_files import PREDICTIONS
from flows.lake_shelf import Shelf
from flows.predictions import SCORES, Predictions, columns, decode

SCHEMA = pa.schema(
    [
        ("prediction_id", pa.string()),
        ("at", pa.timestamp("ms", tz="UTC")),
        ("organisation", pa.string()),
        ("model", pa.string()),
        ("version", pa.string()),
        ("entity", pa.string()),  # what it is of: user, lead...
        ("entity_id", pa.string()),  # null: features alone were given
        *((name, pa.float32()) for name in SCORES),
        ("shadow_version", pa.string()),  # null: none was tried beside
        ("calibration", pa.int32()),  # of the online calibrations; 0: the version's own
        ("defaulted", pa.list_(pa.string())),  # inputs for which their defaults stood
    ]
)
STREAM = Stream(what="predictions", name=keys.PREDICTIONS, position=keys.PREDICTIONS_POSITION, decode=decode)


def table(reads: list[Read[Predictions]]) -> pa.Table:
    """The rows of entries, in their order."""
    tables = [_rows(rows) for _, rows in reads if rows is not None]
    return pa.concat_tables([SCHEMA.empty_table(), *tables], promote_options="default")


def _rows(rows: Predictions) -> pa.Table:
    head, n = rows.head, len(rows)
    scores = [pa.array(column, pa.float32(), from_pandas=True) for column in rows.scores]  # NaN is null
    known = [
        pa.array(rows.words.ids, pa.string()),
        pa.array(rows.at, pa.int64()).cast(SCHEMA.field("at").type),
        pa.array(rows.words.organisations, pa.string()),
        *(pa.array([text] * n, pa.string()) for text in (head.model, head.version, head.entity)),
        pa.array(rows.words.entities, pa.string()),
        *scores,
        pa.array([head.shadow or None] * n, pa.string()),
        pa.array(rows.words.calibrations or [0] * n, pa.int32()),
        _defaulted(rows.defaulted, np.array(head.inputs, object)),
    ]
    inputs = [pa.array(column, pa.float32()) for column in rows.inputs.T]
    return pa.table([*known, *inputs], [*SCHEMA.names, *columns(head)])


def _defaulted(which: Array, names: Array) -> pa.Array:
    ends = np.concatenate(([0], np.cumsum(which.sum(axis=1))))
    return pa.ListArray.from_arrays(
        pa.array(ends, pa.int32()), pa.array(names[np.nonzero(which)[1]].tolist(), pa.string())
    )


def drain(lake: Path, client: redis.Redis) -> Drain[Predictions]:
    """Takes what waits in the stream into files."""
    return Drain(client, STREAM, Shelf(lake, 0, PREDICTIONS), table)
