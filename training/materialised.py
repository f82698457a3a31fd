"""Features of past instants from rows that stand already: the latest row of each person, no newer than the instant.

The rows are Parquet as `feature_repo/training_sets.py` says: what `telltale backfill --feast` wrote, or the features
that the lake kept as served.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset

from feature_repo import training_sets
from feature_repo.finish import DAY
from training.past import NotReadable
from training.people import Array


def lookup(rows: Path, join_key: str, users: pa.Array, at: Array, columns: tuple[str, ...], ttl_days: int) -> pa.Table:
    """A column a feature, a row a person and instant, in their order; null where no row is within the TTL.

    `rows`: a file or a directory. `users`: as the rows name them, `organisation/user`; `at`: microseconds since 1970
    (n,). Of two rows of one instant the one written later counts. Raises NotReadable.
    """
    found = _read(rows, join_key, columns)
    asked = users.dictionary_encode()
    whose, who = _whose(found[join_key], asked.dictionary), np.asarray(asked.indices, np.int64)
    moment = _moments(found, training_sets.EVENT_TIMESTAMP)
    written = _moments(found, training_sets.CREATED) if training_sets.CREATED in found.column_names else moment
    row = _latest(_keys(whose, moment, who, at), written, whose, who)
    fresh = (row >= 0) & (at - np.append(moment, 0)[row] <= ttl_days * DAY * 1000)
    return _taken(found.select(list(columns)), row, fresh)


def _read(rows: Path, join_key: str, columns: tuple[str, ...]) -> pa.Table:
    form = pyarrow.dataset.ParquetFileFormat(dictionary_columns=[join_key])
    try:
        source = pyarrow.dataset.dataset(rows, format=form, partitioning="hive")
    except (pa.ArrowInvalid, OSError) as error:
        raise NotReadable(f"{rows}: expected Parquet rows of features: {error}") from error
    needed = (join_key, training_sets.EVENT_TIMESTAMP, *columns)
    if missing := [name for name in needed if name not in source.schema.names]:
        raise NotReadable(f"{rows}: expected a row's {', '.join(needed)}; {', '.join(missing)} is missing")
    created = [name for name in (training_sets.CREATED,) if name in source.schema.names]
    return source.to_table(columns=[*needed, *created])


def _whose(keys: pa.ChunkedArray, people: pa.Array) -> Array:
    """Each row's person among those asked for; -1 = somebody else."""
    coded = keys.unify_dictionaries().combine_chunks()
    coded = coded if pa.types.is_dictionary(coded.type) else coded.dictionary_encode()
    number = np.asarray(pc.fill_null(pc.index_in(coded.dictionary, value_set=people), -1), np.int64)
    return np.append(number, -1)[np.asarray(pc.fill_null(coded.indices, -1))]


def _moments(found: pa.Table, column: str) -> Array:
    """Microseconds since 1970: int64 (n,)."""
    return np.asarray(found[column].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()))


def _keys(whose: Array, moment: Array, who: Array, at: Array) -> tuple[Array, Array]:
    """One number a row, one a question, that sort by person, then time: exact to the microsecond."""
    both = np.concatenate((moment, at))
    first = int(both.min()) if len(both) else 0
    span = int(both.max(initial=0)) - first + 1
    if (int(who.max(initial=0)) + 2) * span < 1 << 62:
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
    place = np.searchsorted(ordered, asked, side="right") - 1
    row = order[np.maximum(place, 0)]
    return np.where((place >= 0) & (whose[row] == who), row, -1)


def _taken(found: pa.Table, row: Array, fresh: Array) -> pa.Table:
    """These rows, null where not `fresh`. Doubles are gathered part by part: Arrow would first join the parts."""
    plain = [i for i, c in enumerate(found.columns) if c.type == pa.float64() and not c.null_count]
    values = _gathered(found.select(plain), np.where(fresh, row, -1))
    valid = pa.py_buffer(np.packbits(fresh, bitorder="little"))
    made = {i: pa.Array.from_buffers(pa.float64(), len(row), [valid, v]) for i, v in zip(plain, values, strict=True)}
    rest = pa.array(row, mask=~fresh)
    columns = [made[i] if i in made else c.take(rest) for i, c in enumerate(found.columns)]
    return pa.table(columns, names=found.column_names)


def _gathered(found: pa.Table, row: Array) -> list[pa.Buffer]:
    """These rows of each column of doubles; anything where the row is -1."""
    out = np.empty((found.num_columns, len(row)))
    begin = 0
    for part in found.to_batches():
        here = np.flatnonzero((row >= begin) & (row < begin + len(part)))
        local = row[here] - begin
        for values, column in zip(out, part.columns, strict=True):
            values[here] = np.asarray(column)[local]
        begin += len(part)
    return [pa.py_buffer(values) for values in out]
