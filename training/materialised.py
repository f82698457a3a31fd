"""Features of past instants from rows that stand already: the latest row of each person, no newer than the instant.

The rows are Parquet as `feature_repo/training_sets.py` says: what `telltale backfill --feast` wrote, or the features
that the lake kept as served.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset

from feature_repo import training_sets
from feature_repo.finish import DAY
from feature_repo.vocabulary import COLUMNS
from training.past import NotReadable
from training.people import Array

AHEAD = 4  # parts that are read at once
PART = 1 << 22  # rows: a column whole, in most files
TOGETHER = 4  # columns of a part


class Chosen(msgspec.Struct, frozen=True):
    """Index of the row that answers each question (-1: none), and whether it does: (n,)."""

    row: Array
    fresh: Array

    @property
    def valid(self) -> pa.Buffer:
        return pa.py_buffer(np.packbits(self.fresh, bitorder="little"))


def lookup(rows: Path, join_key: str, users: pa.Array, at: Array, columns: tuple[str, ...], ttl_days: int) -> pa.Table:
    """A column a feature, a row a person and instant, in their order; null where no row is within the TTL.

    `rows`: a file or a directory. `users`: as the rows name them, `organisation/user`; `at`: microseconds since 1970
    (n,). Of two rows of one instant the one written later counts. Raises NotReadable.
    """
    source = _source(rows, (join_key, training_sets.EVENT_TIMESTAMP, *columns))
    chosen: Future[Chosen] = Future()
    with ThreadPoolExecutor(AHEAD) as pool:  # columns are read while the rows are still being chosen
        into = np.empty((len(columns), len(at)))  # at once: the system gives it in large pages
        parts = [slice(i, i + TOGETHER) for i in range(0, len(columns), TOGETHER)]
        taken = [pool.submit(_taken, source, columns[part], chosen, into[part]) for part in parts]
        try:
            chosen.set_result(_chosen(source, join_key, users, at, ttl_days))
        except BaseException as error:
            chosen.set_exception(error)  # or they would wait for ever
            raise
        return pa.table([column for part in taken for column in part.result()], names=list(columns))


def _source(rows: Path, needed: tuple[str, ...]) -> pyarrow.dataset.Dataset:
    form = pyarrow.dataset.ParquetFileFormat(dictionary_columns=needed[:1])
    try:
        source = pyarrow.dataset.dataset(rows, format=form, partitioning="hive")
    except (pa.ArrowInvalid, OSError) as error:
        raise NotReadable(f"{rows}: expected Parquet rows of features: {error}") from error
    if missing := [name for name in needed if name not in source.schema.names]:
        raise NotReadable(f"{rows}: expected a row's {', '.join(needed)}; {', '.join(missing)} is missing")
    return source


def _chosen(source: pyarrow.dataset.Dataset, join_key: str, users: pa.Array, at: Array, ttl_days: int) -> Chosen:
    found = source.to_table(columns=[name for name in (join_key, *COLUMNS) if name in source.schema.names])
    whose, who = _numbered(found[join_key], users)
    moment = _moments(found, training_sets.EVENT_TIMESTAMP)
    written = _moments(found, training_sets.CREATED) if training_sets.CREATED in found.column_names else moment
    row = _latest(_keys(whose, moment, who, at), written, whose, who)
    return Chosen(row, (row >= 0) & (at - np.append(moment, 0)[row] <= ttl_days * DAY * 1000))


def _numbered(keys: pa.ChunkedArray, users: pa.Array) -> tuple[Array, Array]:
    """Each row's person, and each question's: numbers that agree."""
    coded = keys.unify_dictionaries().combine_chunks()
    coded = coded if pa.types.is_dictionary(coded.type) else coded.dictionary_encode()
    there = coded.dictionary.cast(pa.string())
    both = pa.concat_arrays([there, users]).dictionary_encode().indices  # those of the rows come first, as they stand
    return np.asarray(pc.fill_null(coded.indices, -1), np.int64), np.asarray(both, np.int64)[len(there) :]


def _moments(found: pa.Table, column: str) -> Array:
    """Microseconds since 1970: int64 (n,)."""
    return np.asarray(found[column].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()))


def _keys(whose: Array, moment: Array, who: Array, at: Array) -> tuple[Array, Array]:
    """One number a row, one a question, that sort by person, then time: exact to the microsecond."""
    both = np.concatenate((moment, at))
    first = int(both.min()) if len(both) else 0
    span = int(both.max(initial=0)) - first + 1
    if (int(max(who.max(initial=0), whose.max(initial=0))) + 2) * span < 1 << 62:
        return whose * span + (moment - first), who * span + (at - first)
    _, rank = np.unique(both, return_inverse=True)  # a moment's rank stands for it
    return (whose << 32) | rank[: len(moment)], (who << 32) | rank[len(moment) :]


def _latest(keys: tuple[Array, Array], written: Array, whose: Array, who: Array) -> Array:
    """The row that answers each question; -1 = there is none."""
    key, asked = keys
    if not len(key):
        return np.full(len(asked), -1)
    order = np.argsort(key)
    ordered = key[order]
    if (ordered[1:] == ordered[:-1]).any():  # several of one moment: the one written last stands last
        order = np.lexsort((written, key))
        ordered = key[order]
    turn = np.argsort(asked)  # questions in order find their places four times as fast
    place = np.empty(len(asked), np.int64)
    place[turn] = np.searchsorted(ordered, asked[turn], side="right") - 1
    row = order[np.maximum(place, 0)]
    return np.where((place >= 0) & (whose[row] == who), row, -1)


def _taken(
    source: pyarrow.dataset.Dataset, names: tuple[str, ...], chosen: Future[Chosen], into: Array
) -> list[pa.Array]:
    """These columns of the rows that were chosen; `into`: where doubles go, a row a column."""
    found = source.to_table(columns=list(names), use_threads=False, batch_size=PART)
    of = chosen.result()
    return [_gathered(column, of, values) for column, values in zip(found.columns, into, strict=True)]


def _gathered(column: pa.ChunkedArray, of: Chosen, into: Array) -> pa.Array:
    if column.type != pa.float64() or column.null_count or not len(column):
        return column.take(pa.array(of.row, mask=~of.fresh))
    parts = [np.asarray(part) for part in column.chunks]
    np.take(parts[0] if len(parts) == 1 else np.concatenate(parts), of.row, mode="clip", out=into)
    return pa.Array.from_buffers(column.type, len(of.row), [of.valid, pa.py_buffer(into)])
