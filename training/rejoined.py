"""What anonymous people passed on to the users whom they turned out to be, restored from the lake."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import duckdb
import msgspec
import numpy as np
import pyarrow as pa

from feature_repo.vocabulary import Vocabulary
from flows import lake_files as files
from flows.entry import Draft, Kind
from flows.lake_files import Id
from flows.lake_read import LakeReader
from flows.lake_rows import Passed
from flows.plan import Plan
from flows.state import Layouts, identity
from flows.windows import Table
from training.logged import QUERY, Person, apply, entry_at, people, place
from training.people import Array
from training.relogged import Entry

_END = 1 << 62
_LATER = """
    SELECT DISTINCT rows.uid FROM read_parquet([{files}], union_by_name = true, hive_partitioning = false) AS rows
    JOIN covered ON covered.uid = rows.uid
    WHERE mid <> 0 AND (epoch_ms(logged_at) << 21) | CAST(split_part(entry_id, '-', 2) AS BIGINT) > covered.until
"""
CHUNK = 1_000  # people looked up at once


class Content(msgspec.Struct, frozen=True):
    """The fields of an absorption's entry: a state's hot and cold value, and up to which entry it holds, if known."""

    hot: bytes
    cold: bytes
    position: str | None

    @property
    def fields(self) -> list[str | bytes]:
        return ["h", self.hot, "c", self.cold, *(("p", self.position) if self.position else ())]


class Absorption(msgspec.Struct, frozen=True):
    """One that is not in the lake: `e` for the partition of the user, not before the moment `ms`."""

    partition: int
    ms: int
    e: bytes
    content: Content


class Rejoined:
    """Reads along with the entries, and knows how much of whom was passed on."""

    def __init__(self, reader: LakeReader, vocabulary: Vocabulary, layouts: Layouts, dedup_hours: int) -> None:
        self._reader, self._vocabulary, self._layouts = reader, vocabulary, layouts
        self._plan, self._store = Plan(vocabulary), reader.store
        self._horizon = dedup_hours * 60
        self._users: dict[str, bytes] = {}  # by anonymous person, as whom they were last identified
        self._since: dict[str, int] = {}  # and when (ms)
        self._until: dict[str, int] = {}  # up to where their history was passed on
        self._spans: dict[tuple[int, Id], tuple[int, int]] = {}

    def note(self, entry: Entry) -> None:
        if entry.kind == Kind.ABSORB:
            before, until = self._until.get(entry.anonymous, -1), _until(entry)
            self._spans[entry.partition, entry.id] = before, until
            self._until[entry.anonymous] = max(before, until)
        for at, user in entry.draft.joins if entry.kind == Kind.EVENTS else ():
            name, when = entry.draft.names[at].decode(), min(entry.draft.ts[at], entry.id[0])
            if when >= self._since.get(name, 0):  # a call that came late changes nothing
                self._users[name], self._since[name] = user, when

    def contents(self, absorptions: Iterable[Entry]) -> dict[tuple[int, Id], Content]:
        """As it was, or counted again where another vocabulary had counted it."""
        found, again = dict[tuple[int, Id], Content](), list[Entry]()
        for entry in absorptions:
            key = entry.partition, entry.id
            state = msgspec.msgpack.decode(entry.state, type=Passed) if entry.state else None
            if state and state.hot.startswith(self._layouts.head) and not self._lacks(state.hot):
                found[key] = Content(state.hot, state.cold, state.position.decode() if state.position else None)
            else:
                again.append(entry)
        known = self._people({entry.anonymous for entry in again})
        for entry in again:
            span = self._spans[entry.partition, entry.id]
            found[entry.partition, entry.id] = self._counted(known.get(self._uid(entry.anonymous)), *span)
        self._spans.clear()
        return found

    def rest(self) -> Iterator[Absorption]:
        """What had been counted, or had come, and was not passed on by the end of the lake."""
        later, nobody = self._later(), self._counted(None, -1, _END)
        last = files.lasts(self._reader.lake)
        names = [name for name in self._users if self._uid(name) in later]
        for low in range(0, len(names), CHUNK):
            known = self._people(set(names[low : low + CHUNK]))
            for name in names[low : low + CHUNK]:
                content = self._counted(known.get(self._uid(name)), self._until.get(name, -1), _END)
                if self._numbers(content)[self._plan.today :].any() or content.cold != nobody.cold:
                    yield self._absorption(name, content, last[self._uid(name) % self._store.partitions])

    def _absorption(self, name: str, content: Content, last: Id) -> Absorption:
        user = self._users[name]
        uid, draft = identity(self._store, user), Draft()
        draft.joins.append((draft.add(uid, user, 0, 0), name.encode()))
        e = draft.encode(0, history=True, kind=Kind.ABSORB)
        kept = msgspec.structs.replace(content, position="{}-{}".format(*last))
        return Absorption(uid % self._store.partitions, int(self._numbers(content)[0]), e, kept)

    def _numbers(self, content: Content) -> Array:
        return np.frombuffer(content.hot, np.int64, offset=len(self._layouts.head))

    def _counted(self, person: Person | None, after: int, until: int) -> Content:
        table = Table(self._plan, 1)
        row = table.rows(np.array([1], np.uint64))
        if person is not None:
            apply(table, row, person, after, until)
        hot = self._layouts.head + table.values[0, : self._plan.hot].tobytes()
        return Content(
            hot, self._layouts.cold(b"", table.closed(row)[0]), None if until in (-1, _END) else entry_at(until)
        )

    def _lacks(self, hot: bytes) -> bool:
        return bool(np.frombuffer(hot, np.int64, offset=len(self._layouts.head))[self._plan.origin])

    def _later(self) -> set[int]:
        """Identities of those joined of whom the lake holds something beyond what was passed on."""
        found = files.current(files.everything(self._reader.lake))
        if not found or not self._users:
            return set()
        uids = pa.array([self._uid(name) for name in self._users], pa.uint64())
        until = pa.array([self._until.get(name, -1) for name in self._users], pa.int64())
        listed = ", ".join("'" + str(file.path).replace("'", "''") + "'" for file in found)
        with duckdb.connect() as connection:
            connection.register("covered", pa.table({"uid": uids, "until": until}))
            return {uid for (uid,) in connection.execute(_LATER.format(files=listed)).fetchall()}

    def _people(self, names: set[str]) -> dict[int, Person]:
        if not names:
            return {}
        rows = self._reader.sql(QUERY, values=[sorted(map(self._uid, names))])
        return people(rows, self._vocabulary, self._store, self._horizon, restated=True)

    def _uid(self, name: str) -> int:
        return identity(self._store, name.encode())


def _until(entry: Entry) -> int:
    """As `place`; -1 where the entry does not say."""
    state = msgspec.msgpack.decode(entry.state, type=Passed) if entry.state else None
    return place(state.position) if state and state.position else -1
