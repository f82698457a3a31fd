"""Answered predictions, from their stream into the lake's files: `predictions/date=.../`, a column an input."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import redis

from feature_repo import keys
from feature_repo.declare import Array
from flows import lake_files as files
from flows.lake_files import PREDICTIONS, Id, id_of, remove
from flows.lake_shelf import Part, Shelf
from flows.predictions import SCORES, Predictions, columns, decode
from flows.running import REDIS_DOWN, patiently, say
from flows.served import held

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
        ("defaulted", pa.list_(pa.string())),  # inputs for which their defaults stood
    ]
)
PIECE = 256  # entries read at once
Read = tuple[bytes, Predictions | None]  # an entry's id, and its rows unless they cannot be read


def table(reads: list[Read]) -> pa.Table:
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
        _defaulted(rows.defaulted, np.array(head.inputs, object)),
    ]
    inputs = [pa.array(column, pa.float32()) for column in rows.inputs.T]
    return pa.table([*known, *inputs], [*SCHEMA.names, *columns(head)])


def _defaulted(which: Array, names: Array) -> pa.Array:
    ends = np.concatenate(([0], np.cumsum(which.sum(axis=1))))
    return pa.ListArray.from_arrays(
        pa.array(ends, pa.int32()), pa.array(names[np.nonzero(which)[1]].tolist(), pa.string())
    )


class PredictionDrain:
    """Takes what waits in the stream into files, then out of the stream."""

    def __init__(self, lake: Path, client: redis.Redis) -> None:
        self._client, self.shelf = client, Shelf(lake, 0, PREDICTIONS)

    def recover(self) -> None:
        """Brings the files in line with the position."""
        self.shelf.recover(id_of(_position(self._client)), self._waits)

    def waiting(self) -> int:
        """Bytes in Redis, about."""
        return held(self._client, keys.PREDICTIONS)

    def take(self, go_on: Callable[[], bool] = lambda: True) -> None:
        """All that waits, piece by piece; what is left when `go_on` says no stays in Redis."""
        while go_on() and (reads := patiently(partial(unwritten, self._client, PIECE), REDIS_DOWN)):
            stale = self.shelf.write(_parts(reads))
            if patiently(partial(self._commit, reads[-1][0]), REDIS_DOWN) is None:
                return
            remove(stale)

    def _commit(self, last: bytes) -> bool:
        """The position, and with it what the files now hold leaves the stream."""
        ms, number = id_of(last)
        with self._client.pipeline(transaction=True) as pipe:
            pipe.set(keys.PREDICTIONS_POSITION, last)
            pipe.xtrim(keys.PREDICTIONS, minid=f"{ms}-{number + 1}", approximate=False)
            pipe.execute()
        return True

    def _waits(self, entry: Id) -> bool:
        name = f"{entry[0]}-{entry[1]}"
        return bool(self._client.xrange(keys.PREDICTIONS, name, name))


def _parts(reads: list[Read]) -> Iterator[Part]:
    for _, dated in groupby(reads, lambda read: files.date_of(id_of(read[0]))):
        these = list(dated)
        yield Part(id_of(these[0][0]), id_of(these[-1][0]), table(these))


def unwritten(client: redis.Redis, most: int | None = None) -> list[Read]:
    """What is in the stream beyond the lake's position; at most so many entries."""
    found: Any = client.xrange(keys.PREDICTIONS, b"(" + _position(client), count=most)
    return [(id_, _readable(id_, fields)) for id_, fields in found]


def _position(client: redis.Redis) -> bytes:
    found: Any = client.get(keys.PREDICTIONS_POSITION)
    return found or b"0-0"


def _readable(id_: bytes, fields: dict[bytes, bytes]) -> Predictions | None:
    try:
        return decode(fields)
    except ValueError as error:
        say(f"predictions {id_.decode()} are not in the lake: {error}")
        return None
