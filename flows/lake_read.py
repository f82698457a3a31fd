"""Reads the lake with DuckDB: the files, and what the log holds beyond them. Each event once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import msgspec
import numpy as np
import pyarrow as pa
import redis
import xxhash

from feature_repo import keys
from feature_repo.vocabulary import Vocabulary
from flows import lake_files as files
from flows.entry import EntryError
from flows.lake_rows import SCHEMA, Rows, book, concat, read
from flows.store import Store

AHEAD_MS = 7_200_000  # an event's own time may be an hour ahead of the log's: two are safe
TRIES = 5  # a file that was listed may have been merged into another before it is opened
THREADS = 2

_ALL = """
    SELECT * FROM {source}
    WHERE mid <> 0{of}
    QUALIFY row_number() OVER (PARTITION BY "partition", mid
        ORDER BY logged_at, CAST(split_part(entry_id, '-', 2) AS BIGINT), "index") = 1
"""


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """Which events. `user` is `organisation/user`; times are the events' own, ms since 1970, `until` not included."""

    user: str | None = None
    since: int | None = None
    until: int | None = None


class LakeReader:
    """`client` and `store` add what is not yet in files; without them the files alone are read."""

    def __init__(
        self, lake: Path, vocabulary: Vocabulary, client: redis.Redis | None = None, store: Store | None = None
    ) -> None:
        self.lake, self.vocabulary, self.client, self.store = lake, vocabulary, client, store

    def events(self, window: Window = Window(), limit: int | None = None) -> pa.Table:  # noqa: B008  # it is frozen
        """Newest first, as `flows.lake_rows.SCHEMA`; of a messageId that a partition met again, the first."""
        where, values = _where(window)
        bound = "" if limit is None else f" LIMIT {limit:d}"
        query = f"SELECT * FROM events{where} ORDER BY ts DESC, logged_at DESC{bound}"  # noqa: S608  # ours alone
        return self.sql(query, window, values)

    def sql(self, query: str, window: Window = Window(), values: list[Any] | None = None) -> pa.Table:  # noqa: B008
        """A query over the table `events`, which holds at least the window's."""
        tail = self._tail(window)  # before the files: what is flushed meanwhile is then in both, and counts once
        for tries in range(TRIES):
            try:
                return _query(self._files(window), tail, self._uid(window.user), query, values or [])
            except duckdb.IOException:
                if tries == TRIES - 1:
                    raise
        raise AssertionError  # pragma: no cover

    def _uid(self, user: str | None) -> int | None:
        return xxhash.xxh3_64_intdigest(user.encode(), self.store.seed) if user is not None and self.store else None

    def _partitions(self, window: Window) -> list[int] | None:
        uid = self._uid(window.user)
        if self.store is None:
            return None
        return list(range(self.store.partitions)) if uid is None else [uid % self.store.partitions]

    def _files(self, window: Window) -> list[str]:
        since = files.date_of((max(window.since - AHEAD_MS, 0), 0)) if window.since is not None else ""
        one = self._partitions(window) if window.user else None
        found = files.everything(self.lake, one[0] if one else None, since)
        return [str(file.path) for file in files.current(found)]

    def _tail(self, window: Window) -> pa.Table:
        tables = (self._unflushed(p, self._uid(window.user)) for p in self._partitions(window) or ())
        return concat(tables)

    def _unflushed(self, partition: int, uid: int | None) -> pa.Table:
        client: Any = self.client
        position = client.get(keys.lake_position(partition)) or b"0-0"
        rows = Rows(partition, self.vocabulary)
        books: dict[int, Any] = {}
        for entry_id, fields in client.xrange(keys.log(partition), b"(" + position, b"+"):
            try:
                entry = read(fields.get(b"e", b""))
            except EntryError:
                continue
            only = None if entry is None or uid is None else np.flatnonzero(entry.uid == np.uint64(uid))
            if entry is None or (only is not None and not len(only)):
                continue
            if entry.fingerprint not in books:
                books[entry.fingerprint] = book(client.hget(keys.VOCABULARIES, str(entry.fingerprint)))
            rows.add(entry_id, entry, fields.get(b"r", b""), books[entry.fingerprint], only)
        return rows.table()


def _query(paths: list[str], tail: pa.Table, uid: int | None, query: str, values: list[Any]) -> pa.Table:
    with duckdb.connect(config={"threads": THREADS}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("tail", tail)
        source = "tail"
        if paths:
            listed = ", ".join("'" + path.replace("'", "''") + "'" for path in paths)
            source = f"(FROM read_parquet([{listed}], hive_partitioning=false) UNION ALL BY NAME FROM tail)"
        of = "" if uid is None else f" AND uid = {uid:d}"
        connection.execute(f"CREATE VIEW events AS {_ALL.format(source=source, of=of)}")
        return connection.sql(query, params=values).to_arrow_table()


def _where(window: Window) -> tuple[str, list[Any]]:
    given = (
        ("organisation || '/' || \"user\" = ?", window.user),
        ("ts >= make_timestamptz(? * 1000)", window.since),
        ("ts < make_timestamptz(? * 1000)", window.until),
    )
    tests = [test for test, value in given if value is not None]
    return (" WHERE " + " AND ".join(tests) if tests else ""), [value for _, value in given if value is not None]


__all__ = ["SCHEMA", "LakeReader", "Window"]
