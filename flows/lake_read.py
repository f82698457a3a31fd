"""Reads the lake with DuckDB: the files, and what Redis holds beyond them. Each event, each served row once."""

from __future__ import annotations

from collections.abc import Sequence
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
from flows import lake_predictions, lake_served
from flows.entry import Entry, EntryError
from flows.lake_books import Books
from flows.lake_files import EVENTS, FEATURES, PREDICTIONS
from flows.lake_rows import SCHEMA, Rows, concat, read
from flows.lake_served import Columns
from flows.store import Store

AHEAD_MS = 7_200_000  # an event's own time may be an hour ahead of the log's: two are safe
TRIES = 20  # a file that was listed may have been merged into another before it is opened
THREADS = 2
Uids = dict[int, list[int] | None]  # by partition, whom to read; None = all

_VIEWS = """
    CREATE VIEW rows AS SELECT * FROM {source}{whose};
    CREATE VIEW links AS SELECT * FROM rows WHERE mid = 0;
    CREATE VIEW events AS SELECT * FROM rows WHERE mid <> 0
        QUALIFY row_number() OVER (PARTITION BY "partition", mid
            ORDER BY logged_at, CAST(split_part(entry_id, '-', 2) AS BIGINT), "index") = 1;
"""
_SERVED = """
    CREATE VIEW served AS SELECT * FROM {source}{whose}
        QUALIFY row_number() OVER (PARTITION BY "partition", uid, position, created) = 1;
"""
_PREDICTIONS = """
    CREATE VIEW predictions AS SELECT * FROM {source}{whose} QUALIFY row_number() OVER (PARTITION BY prediction_id) = 1;
"""
_FIRST = "SELECT DISTINCT joined FROM links WHERE type = 'absorb' ORDER BY 1"


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """Which events. Users are `organisation/user`; times are the events' own, ms since 1970, `until` not included.

    `partitions`: these alone; empty: all. They do not matter where users are named.
    """

    users: tuple[str, ...] = ()
    partitions: tuple[int, ...] = ()
    since: int | None = None
    until: int | None = None


EVERYTHING = Window()


class LakeReader:
    """Of one store. Without a `client` the files alone are read, not what the log holds beyond them."""

    def __init__(self, lake: Path, vocabulary: Vocabulary, store: Store, client: redis.Redis | None = None) -> None:
        self.lake, self.vocabulary, self.store, self.client = lake, vocabulary, store, client

    def events(self, window: Window = EVERYTHING, limit: int | None = None) -> pa.Table:
        """Newest first, as `flows.lake_rows.SCHEMA`; of a messageId that a partition met again, the first."""
        tests, values = _times(window)
        bound = "" if limit is None else f" LIMIT {limit:d}"
        query = f"SELECT * FROM events{tests} ORDER BY ts DESC, logged_at DESC{bound}"  # noqa: S608  # ours alone
        return self.sql(query, window, values)

    def selves(self, user: str) -> tuple[str, ...]:
        """The user, and the anonymous people whose history they took over when they were identified."""
        found = self.sql(_FIRST, Window(users=(user,)))["joined"].to_pylist()
        return (user, *found)

    def sql(self, query: str, window: Window = EVERYTHING, values: Sequence[Any] = ()) -> pa.Table:
        """A query over the views `events` and `links` of the window's users, from the window's dates on at least.

        `rows` is both, with resent messages as often as they came.
        """
        uids = self._uids(window)
        tail = self._tail(uids)  # before the files: what is flushed meanwhile is then in both, and counts once
        return self._asked(EVENTS, _VIEWS, tail, (uids, window.since), (query, values))

    def served(
        self, query: str = "SELECT * FROM served", window: Window = EVERYTHING, values: Sequence[Any] = ()
    ) -> pa.Table:
        """A query over the view `served`: features as they were written, as `flows.lake_served.Columns`."""
        uids = self._uids(window)
        return self._asked(FEATURES, _SERVED, self._unwritten(uids), (uids, window.since), (query, values))

    def predictions(
        self, query: str = "SELECT * FROM predictions", since: int | None = None, values: Sequence[Any] = ()
    ) -> pa.Table:
        """A query over the view `predictions`: what was answered, as `flows.lake_predictions.SCHEMA` and an input each.

        `since`: ms since 1970, from whose date on at least.
        """
        every: Uids = dict.fromkeys(range(self.store.partitions))
        waiting = [] if self.client is None else lake_predictions.STREAM.beyond(self.client)
        tail = lake_predictions.table(waiting)
        return self._asked(PREDICTIONS, _PREDICTIONS, tail, (every, since), (query, values))

    def _asked(
        self, kind: str, views: str, tail: pa.Table, which: tuple[Uids, int | None], asked: tuple[str, Sequence[Any]]
    ) -> pa.Table:
        lost: Exception
        for _ in range(TRIES):
            try:
                return _query(self._files(kind, *which), tail, views, self._whose(which[0]), *asked)
            except (duckdb.IOException, FileNotFoundError) as error:
                lost = error
        raise lost

    def _uids(self, window: Window) -> Uids:
        uids: Uids = {} if window.users else dict.fromkeys(window.partitions or range(self.store.partitions))
        for user in window.users:
            uid = xxhash.xxh3_64_intdigest(user.encode(), self.store.seed)
            uids.setdefault(uid % self.store.partitions, []).append(uid)  # type: ignore[union-attr]  # a list by now
        return uids

    def _files(self, kind: str, uids: Uids, since: int | None) -> list[str]:
        date = "" if since is None else files.date_of((max(since - AHEAD_MS, 0), 0))
        found = [f for f in files.everything(self.lake, since=date, kind=kind) if any(map(f.may_hold, uids))]
        return [str(file.path) for file in files.current(found)]

    def _whose(self, uids: Uids) -> str:
        """Of a shared file only the row groups of these partitions are read."""
        tests = []
        if len(uids) < self.store.partitions:
            tests.append(f'"partition" IN ({", ".join(map(str, uids))})')
        if wanted := [str(uid) for mine in uids.values() for uid in mine or ()]:
            tests.append(f"uid IN ({', '.join(wanted)})")
        return " WHERE " + " AND ".join(tests) if tests else ""

    def _tail(self, uids: Uids) -> pa.Table:
        if self.client is None:
            return SCHEMA.empty_table()
        books = Books(self.client)
        return concat(self._unflushed(self.client, books, p, mine) for p, mine in uids.items())

    def _unwritten(self, uids: Uids) -> pa.Table:
        columns = Columns(self.client, self.vocabulary.join_key)
        if self.client is None:
            return columns.empty()
        tables = [columns.table(p, lake_served.stream(p).beyond(self.client)) for p in uids]
        return pa.concat_tables([columns.empty(), *tables], promote_options="default")

    def _unflushed(self, client: Any, books: Books, partition: int, uids: list[int] | None) -> pa.Table:
        position = client.get(keys.lake_position(partition)) or b"0-0"
        rows = Rows(partition, self.vocabulary)
        for entry_id, fields in client.xrange(keys.log(partition), b"(" + position, b"+"):
            entry = _readable(fields.get(b"e", b""))
            only = (
                None if entry is None or uids is None else np.flatnonzero(np.isin(entry.uid, np.array(uids, np.uint64)))
            )
            if entry is not None and (only is None or len(only)):
                rows.add(entry_id, entry, fields, books.of(entry.fingerprint), only)
        return rows.table()


def _readable(field: bytes) -> Entry | None:
    try:
        return read(field)
    except EntryError:
        return None  # the engine sets it aside


def _query(paths: list[str], tail: pa.Table, views: str, whose: str, query: str, values: Sequence[Any]) -> pa.Table:
    with duckdb.connect(config={"threads": THREADS}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("tail", tail)
        source = "tail"
        if paths:
            listed = ", ".join("'" + path.replace("'", "''") + "'" for path in paths)
            listed = f"[{listed}], hive_partitioning=false, union_by_name=true"  # older files may lack a column
            source = f"(FROM read_parquet({listed}) UNION ALL BY NAME FROM tail)"
        connection.execute(views.format(source=source, whose=whose))
        return connection.sql(query, params=list(values)).to_arrow_table()


def _times(window: Window) -> tuple[str, list[int]]:
    given = (("ts >= make_timestamptz(? * 1000)", window.since), ("ts < make_timestamptz(? * 1000)", window.until))
    tests = [test for test, value in given if value is not None]
    return (" WHERE " + " AND ".join(tests) if tests else ""), [value for _, value in given if value is not None]
