"""The features as served that the lake keeps, an earlier and a later half: what drift is told from."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import duckdb
import msgspec

from feature_repo.declare import Value
from feature_repo.training_sets import EVENT_TIMESTAMP
from feature_repo.vocabulary import Vocabulary
from flows.lake_files import FEATURES, current, everything

MOST = 20_000  # people of each half

_AS = "union_by_name=true, hive_partitioning=false"
_HALF = """
    SELECT * FROM (SELECT * FROM served WHERE {at} BETWEEN ? AND ?
        QUALIFY row_number() OVER (PARTITION BY {whose} ORDER BY {at} DESC) = 1)
    USING SAMPLE reservoir({most} ROWS) REPEATABLE (1)
"""


class Half(msgspec.Struct):
    """Of each person the last row of these days: values by feature."""

    since: datetime
    until: datetime
    values: dict[str, list[Value | None]]


def halves(lake: Path, vocabulary: Vocabulary) -> tuple[Half, Half] | None:
    """Up to and after the middle of the time that the files span; None where there are none."""
    paths = [str(file.path) for file in current(everything(lake, kind=FEATURES))]
    if not paths:
        return None
    with duckdb.connect(config={"threads": 2}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        listed = ", ".join("'" + path.replace("'", "''") + "'" for path in paths)
        connection.execute(f"CREATE VIEW served AS FROM read_parquet([{listed}], {_AS})")
        spans = connection.sql(f"SELECT min({EVENT_TIMESTAMP}), max({EVENT_TIMESTAMP}) FROM served")  # noqa: S608
        ((first, last),) = spans.fetchall()
        if first is None:
            return None
        middle = first + (last - first) / 2
        return _half(connection, vocabulary, first, middle), _half(connection, vocabulary, middle, last)


def _half(connection: duckdb.DuckDBPyConnection, vocabulary: Vocabulary, since: datetime, until: datetime) -> Half:
    query = _HALF.format(at=EVENT_TIMESTAMP, whose=vocabulary.join_key, most=MOST)
    rows = connection.sql(query, params=[since, until]).to_arrow_table()
    named = [feature.name for feature in vocabulary.features if feature.name in rows.column_names]
    return Half(since, until, {name: rows[name].to_pylist() for name in named})
