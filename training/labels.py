"""A file of labels: rows of (user, as_of, anything else), from CSV or Parquet."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from feature_repo.moments import microseconds
from training.past import NotReadable
from training.people import Array

USER, AS_OF = "user", "as_of"
_TIME = pa.timestamp("us", tz="UTC")
_SECONDS = 100_000_000_000  # an epoch below this is in seconds, from it on in milliseconds (of 1973 and later)


class Labels(msgspec.Struct, frozen=True):
    """The file's rows, in its order: `table` with `user` as text and `as_of` as a time in UTC."""

    table: pa.Table

    @property
    def users(self) -> pa.Array:
        return self.table[USER].combine_chunks()

    @property
    def microseconds(self) -> Array:
        """As of when, since 1970: int64 (n,)."""
        return np.asarray(self.table[AS_OF].cast(pa.int64()))

    @property
    def milliseconds(self) -> Array:
        """As of when, in the log's whole milliseconds: int64 (n,)."""
        return self.microseconds // 1000

    def __len__(self) -> int:
        return int(self.table.num_rows)


def read(path: Path, *keys: str) -> Labels:
    """Times are ISO 8601 or epochs in seconds or milliseconds, UTC where they name no zone.

    `keys`: columns that say whose rows these are, where there is no `user` (`lead_id`). Raises NotReadable that names
    the file, the line and the column.
    """
    table = _table(path)
    if USER not in table.column_names and (other := next((key for key in keys if key in table.column_names), None)):
        table = table.append_column(USER, table[other])
    for column in (USER, AS_OF):
        if column not in table.column_names:
            raise NotReadable(f"{path}: expected the columns {USER} and {AS_OF}, got {', '.join(table.column_names)}")
    first = 2 if path.suffix == ".csv" else 1  # the line (or row) of the first
    users = _users(table[USER].combine_chunks(), path, first)
    times = _times(table[AS_OF].combine_chunks(), path, first)
    table = table.set_column(table.column_names.index(USER), USER, users)
    return Labels(table.set_column(table.column_names.index(AS_OF), AS_OF, times))


def _table(path: Path) -> pa.Table:
    text = pyarrow.csv.ConvertOptions(
        column_types={USER: pa.string(), AS_OF: pa.string()}, strings_can_be_null=True, null_values=[""]
    )
    try:
        if path.suffix == ".csv":
            return pyarrow.csv.read_csv(path, convert_options=text)
        return pyarrow.parquet.read_table(path)
    except FileNotFoundError:
        raise NotReadable(f"{path}: no such file") from None
    except (pa.ArrowInvalid, OSError) as error:
        wanted = f"CSV (named .csv) or Parquet with the columns {USER} and {AS_OF}"
        raise NotReadable(f"{path}: expected {wanted}: {error}") from error


def _users(given: pa.Array, path: Path, first: int) -> pa.Array:
    users = given.cast(pa.string())
    missing = pc.fill_null(pc.equal(users, ""), fill_value=True)
    if (bad := pc.index(missing, value=True).as_py()) >= 0:
        raise NotReadable(f"{path}, line {bad + first}, column {USER}: expected a user's id, got nothing")
    return users


def _times(given: pa.Array, path: Path, first: int) -> pa.Array:
    kind = given.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        found = _shifted(given)
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
        found = _epochs(given)
    else:
        return _texts(given.cast(pa.string()), path, first)
    if (bad := pc.index(found.is_null(), value=True).as_py()) >= 0:
        raise NotReadable(f"{path}, line {bad + first}, column {AS_OF}: expected a time, got nothing")
    return found


def _shifted(given: pa.Array) -> pa.Array:
    """Any timestamp or date in microseconds, UTC where it has no zone."""
    return given.cast(pa.timestamp("us", tz=getattr(given.type, "tz", None)), safe=False).cast(_TIME)


def _epochs(given: pa.Array) -> pa.Array:
    number = np.asarray(given.cast(pa.float64()).fill_null(np.nan))
    moments = np.where(np.isfinite(number), number, 0.0) * np.where(np.abs(number) < _SECONDS, 1e6, 1e3)
    return pa.array(np.rint(moments).astype(np.int64), mask=~np.isfinite(number)).cast(_TIME)


def _texts(given: pa.Array, path: Path, first: int) -> pa.Array:
    """Whole columns of one spelling at once; a mixed one row by row, which also finds the one that is wrong."""
    for kind in (_TIME, pa.timestamp("us"), pa.float64()):
        try:
            if not given.null_count:
                found = given.cast(kind)
                return _epochs(found) if pa.types.is_floating(kind) else _shifted(found)
        except pa.ArrowInvalid:
            continue
    return pa.array([_moment(text, path, i) for i, text in enumerate(given.to_pylist(), first)]).cast(_TIME)


def _moment(text: Any, path: Path, line: int) -> int:
    try:
        if text.lstrip("-").replace(".", "", 1).isdigit() and len(text) > 8:  # 8 digits are a date
            return int(_epochs(pa.array([float(text)])).cast(pa.int64())[0].as_py())
        return microseconds(datetime.fromisoformat(text).replace(tzinfo=datetime.fromisoformat(text).tzinfo or UTC))
    except (ValueError, AttributeError):
        wanted = "expected an ISO 8601 time or an epoch in seconds or milliseconds"
        raise NotReadable(f"{path}, line {line}, column {AS_OF}: {wanted}, got {text!r:.60}") from None
