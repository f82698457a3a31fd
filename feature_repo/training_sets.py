"""Rows for Feast's offline store: where they lie and their columns. `telltale backfill` writes them.

A directory of Parquet files a view, `<home>/training_sets/<view>/`. Feast takes the latest row of an entity that
is no newer than the label and no older than the view's TTL.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from feature_repo.declare import View
from feature_repo.vocabulary import COLUMNS

EVENT_TIMESTAMP, CREATED = COLUMNS  # as of when the features stand; when the row was written: the later one counts
_TIME = pa.timestamp("us", tz="UTC")  # of nanoseconds Feast's DuckDB store makes wrong joins
_TYPES = {"number": pa.float64(), "integer": pa.int64(), "text": pa.string()}


def directory(home: Path, view: View) -> Path:
    return home / "training_sets" / view.name


def schema(view: View, join_key: str) -> pa.Schema:
    """The columns of a view's rows: whose (`organisation/id`), when, and a column a feature, in order."""
    features = [(field.name, _TYPES[field.kind]) for field in view.fields]
    return pa.schema([(join_key, pa.string()), (EVENT_TIMESTAMP, _TIME), (CREATED, _TIME), *features])


def begin(home: Path, view: View, join_key: str) -> Path:
    """The view's directory, with a file of no rows in it, so that Feast finds the columns before there is a row."""
    place = directory(home, view)
    place.mkdir(parents=True, exist_ok=True)
    pq.write_table(schema(view, join_key).empty_table(), place / "columns.parquet")
    return place
