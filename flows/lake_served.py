"""Features as served, from their streams into the lake's files: the columns that Feast's offline store reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import redis

from feature_repo import keys
from feature_repo.training_sets import CREATED, EVENT_TIMESTAMP
from flows import lake_files as files
from flows.lake_files import FEATURES, Id, id_of, remove
from flows.lake_shelf import Part, Shelf
from flows.running import REDIS_DOWN, patiently, say
from flows.scored import Member, members
from flows.served import ServedRows, decode, held

TIME = pa.timestamp("us", tz="UTC")
WHOSE = [
    ("partition", pa.int32()),
    ("uid", pa.uint64()),  # identity of organisation and user
    ("organisation", pa.string()),
    ("user", pa.string()),
    ("position", pa.string()),  # the last entry of the log that these features contain
    ("feature_set", pa.uint32()),  # under which declarations they were made
]
PIECE = 256  # entries read at once
MUCH = 16_000_000  # bytes in Redis from which the lake does not wait
Read = tuple[bytes, ServedRows | None]  # an entry's id, and its rows unless they cannot be read


class Columns:
    """Rows of any feature set as Arrow columns: whose they are, the join key, when, a double a feature, and scores."""

    def __init__(self, client: redis.Redis | None, join_key: str) -> None:
        self._client, self._join_key = client, join_key
        self._names: dict[int, list[str]] = {}
        self._models: dict[int, list[Member]] = {0: []}

    def table(self, partition: int, reads: list[Read]) -> pa.Table:
        """The rows of entries, in their order."""
        tables = [self._rows(partition, id_of(id_), rows) for id_, rows in reads if rows is not None]
        return pa.concat_tables([self.empty(), *tables], promote_options="default")

    def empty(self) -> pa.Table:
        return pa.schema(
            [*WHOSE, (self._join_key, pa.string()), (EVENT_TIMESTAMP, TIME), (CREATED, TIME)]
        ).empty_table()

    def learn(self, reads: list[Read]) -> bool:
        """So that Redis is not asked half-way through a write."""
        for _, rows in reads:
            if rows is not None:
                self._named(rows)
                self._scored(rows)
        return True

    def _scored(self, rows: ServedRows) -> list[Member]:
        if rows.score_set not in self._models:
            found: Any = self._client and self._client.hget(keys.SCORE_SETS, str(rows.score_set))
            self._models[rows.score_set] = members(found)
        return self._models[rows.score_set]

    def _named(self, rows: ServedRows) -> list[str]:
        if rows.feature_set not in self._names:
            found: Any = self._client and self._client.hget(keys.FEATURE_SETS, str(rows.feature_set))
            unknown = [f"{rows.feature_set}:{i}" for i in range(rows.values.shape[1])]
            self._names[rows.feature_set] = msgspec.json.decode(found) if found else unknown
        return self._names[rows.feature_set]

    def _rows(self, partition: int, id_: Id, rows: ServedRows) -> pa.Table:
        n, names = len(rows.names), [name.decode() for name in rows.names]
        parted = [name.partition("/") for name in names]
        written = id_[0] * 1000 + min(id_[1], 999)  # of two rows of one moment the later one counts
        whose = (
            np.full(n, partition, np.int32),
            rows.uid,
            [organisation for organisation, _, _ in parted],
            [user for _, _, user in parted],
            [rows.position.decode()] * n,
            np.full(n, rows.feature_set, np.uint32),
            names,
            rows.now * 1000,
            np.full(n, written),
        )
        columns = [pa.array(c).cast(t.type) for c, t in zip(whose, self.empty().schema, strict=True)]
        values = [pa.array(column, from_pandas=True) for column in rows.values.T]  # NaN is null
        scores = {
            name: column for i, m in enumerate(self._scored(rows)) for name, column in _scores(rows, i, m).items()
        }
        names = [*self.empty().column_names, *self._named(rows), *scores]
        return pa.table([*columns, *values, *scores.values()], names)


def _scores(rows: ServedRows, i: int, member: Member) -> dict[str, pa.Array]:
    """What a model said of each row, under which version; no feature's name has two _ in it."""
    if not member.version:
        return {}
    raw, score = rows.scores[:, i].T
    version = pa.array([member.version if known else None for known in ~np.isnan(score)], pa.string())
    told = {"score": pa.array(score, from_pandas=True), "raw": pa.array(raw, from_pandas=True), "version": version}
    return {f"{member.model}__{name}": column for name, column in told.items()}


class Drain:
    """Takes what waits in the streams of served features into files, then out of the streams."""

    def __init__(self, lake: Path, client: redis.Redis, partitions: int, join_key: str) -> None:
        self._client = client
        self._columns = Columns(client, join_key)
        self.shelves = [Shelf(lake, p, FEATURES) for p in range(partitions)]

    def recover(self) -> None:
        """Brings the files in line with the positions."""
        for shelf in self.shelves:
            stream = keys.served(shelf.partition)
            oldest: Any = self._client.xrange(stream, count=1)
            first = id_of(oldest[0][0]) if oldest else None
            position = id_of(_position(self._client, shelf.partition))
            # What was dropped from the stream meanwhile cannot be written again: a file that holds it stands.
            if shelf.last() > position and (first is None or shelf.last() < first):
                position = shelf.last()
                self._commit(shelf.partition, b"%d-%d" % position)
            reached = shelf.recover(position, partial(_logged, self._client, stream))
            if reached > position:
                self._commit(shelf.partition, b"%d-%d" % reached)

    def waiting(self) -> int:
        """Bytes in Redis, about."""
        return sum(held(self._client, keys.served(shelf.partition)) for shelf in self.shelves)

    def take(self, go_on: Callable[[], bool] = lambda: True) -> None:
        """All that waits, piece by piece; what is left when `go_on` says no stays in Redis."""
        for shelf in self.shelves:
            while go_on() and (reads := patiently(partial(self._read, shelf.partition), REDIS_DOWN)):
                if not self._write(shelf, reads):
                    return

    def _read(self, partition: int) -> list[Read]:
        return unflushed(self._client, partition, PIECE)

    def _write(self, shelf: Shelf, reads: list[Read]) -> bool:
        """Whether it was committed: not, when stopped while Redis was down."""
        if patiently(lambda: self._columns.learn(reads), REDIS_DOWN) is None:
            return False
        stale = shelf.write(self._parts(shelf.partition, reads))
        if patiently(lambda: self._commit(shelf.partition, reads[-1][0]), REDIS_DOWN) is None:
            return False
        remove(stale)
        return True

    def _parts(self, partition: int, reads: list[Read]) -> Iterator[Part]:
        for _, dated in groupby(reads, lambda read: files.date_of(id_of(read[0]))):
            these = list(dated)
            yield Part(id_of(these[0][0]), id_of(these[-1][0]), self._columns.table(partition, these))

    def _commit(self, partition: int, last: bytes) -> bool:
        """The position, and with it what the files now hold leaves the stream."""
        ms, number = id_of(last)
        with self._client.pipeline(transaction=True) as pipe:
            pipe.set(keys.served_position(partition), last)
            pipe.xtrim(keys.served(partition), minid=f"{ms}-{number + 1}", approximate=False)
            pipe.execute()
        return True


def unflushed(client: redis.Redis, partition: int, most: int | None = None) -> list[Read]:
    """What is in a stream beyond the lake's position; at most so many entries."""
    after = b"(" + _position(client, partition)
    found: Any = client.xrange(keys.served(partition), after, count=most)
    return [(id_, _readable(id_, fields)) for id_, fields in found]


def _position(client: redis.Redis, partition: int) -> bytes:
    found: Any = client.get(keys.served_position(partition))
    return found or b"0-0"


def _readable(id_: bytes, fields: dict[bytes, bytes]) -> ServedRows | None:
    try:
        return decode(fields)
    except ValueError as error:
        say(f"served features {id_.decode()} are not in the lake: {error}")
        return None


def _logged(client: redis.Redis, stream: str, entry: Id) -> bool:
    name = f"{entry[0]}-{entry[1]}"
    return bool(client.xrange(stream, name, name))
