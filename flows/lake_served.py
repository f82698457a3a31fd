"""Features as served, from their streams into the lake's files: the columns that Feast's offline store reads."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import redis

from feature_repo import keys
from feature_repo.training_sets import CREATED, EVENT_TIMESTAMP
from flows.lake_drain import Drain, Read, Stream
from flows.lake_files import FEATURES, Id, id_of
from flows.lake_shelf import Shelf
from flows.scored import Member, members
from flows.served import ServedRows, decode

TIME = pa.timestamp("us", tz="UTC")
WHOSE = [
    ("partition", pa.int32()),
    ("uid", pa.uint64()),  # identity of organisation and user
    ("organisation", pa.string()),
    ("user", pa.string()),
    ("position", pa.string()),  # the last entry of the log that these features contain
    ("feature_set", pa.uint32()),  # under which declarations they were made
]
MUCH = 16_000_000  # bytes in Redis from which the lake does not wait


class Columns:
    """Rows of any feature set as Arrow columns: whose they are, the join key, when, a double a feature, and scores."""

    def __init__(self, client: redis.Redis | None, join_key: str) -> None:
        self._client, self._join_key = client, join_key
        self._names: dict[int, list[str]] = {}
        self._models: dict[int, list[Member]] = {0: []}

    def table(self, partition: int, reads: list[Read[ServedRows]]) -> pa.Table:
        """The rows of entries, in their order."""
        tables = [self._rows(partition, id_of(id_), rows) for id_, rows in reads if rows is not None]
        return pa.concat_tables([self.empty(), *tables], promote_options="default")

    def empty(self) -> pa.Table:
        return pa.schema(
            [*WHOSE, (self._join_key, pa.string()), (EVENT_TIMESTAMP, TIME), (CREATED, TIME)]
        ).empty_table()

    def learn(self, reads: list[Read[ServedRows]]) -> bool:
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
    told["calibration"] = pa.array(np.full(len(score), member.calibration, np.int32), mask=np.isnan(score))
    return {f"{member.model}__{name}": column for name, column in told.items()}


def drains(lake: Path, client: redis.Redis, partitions: int, join_key: str) -> list[Drain[ServedRows]]:
    """Take what waits in the streams of all partitions into files."""
    columns = Columns(client, join_key)
    return [
        Drain(client, stream(p), Shelf(lake, p, FEATURES), partial(columns.table, p), columns.learn)
        for p in range(partitions)
    ]


def stream(partition: int) -> Stream[ServedRows]:
    name, position = keys.served(partition), keys.served_position(partition)
    return Stream(what="served features", name=name, position=position, decode=decode, drops=True)
