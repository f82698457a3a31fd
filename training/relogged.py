"""The lake's rows as the log's entries again, in the log's order."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from feature_repo.vocabulary import SILENT, UNKNOWN, Vocabulary
from flows import lake_files as files
from flows import push
from flows.entry import Draft, Kind
from flows.lake_files import Id
from flows.push import Push
from training.logged import Codes

ROWS = 8_192  # read at once of a partition
COLUMNS = (
    "entry_id", "index", "organisation", "user", "uid", "mid", "type", "event", "tag", "name", "value", "ts", "joined",
    "raw", "state",
)  # fmt: skip


class Entry(msgspec.Struct):
    """One entry: its field `e` to be made of `draft`, and what the caller has to know of it.

    `state`, `anonymous`: of an absorption. `pushes`: (organisation/id, row) for views that outside data fills.
    """

    partition: int
    id: Id
    kind: Kind
    draft: Draft
    unknown: list[str] = []
    pushes: list[tuple[str, Push]] = []
    state: bytes | None = None
    anonymous: str = ""

    @property
    def accepted(self) -> int:
        return len(self.draft) - len(self.draft.joins)


def entries(lake: Path, vocabulary: Vocabulary) -> Iterator[Entry]:
    """Everything that the lake holds, over all partitions by the log's time."""
    found = files.current(files.everything(lake))
    partitions = sorted({p for file in found for p in file.spans()})
    made = _Made(vocabulary)
    streams = [_partition(p, [f for f in found if p in f.spans()]) for p in partitions]
    for p, id_, rows in heapq.merge(*streams, key=itemgetter(1, 0)):
        yield made.entry(p, id_, rows)


def rows(lake: Path) -> int:
    return sum(files.rows(file) for file in files.current(files.everything(lake)))


def _partition(partition: int, found: Iterable[files.File]) -> Iterator[tuple[int, Id, list[dict[str, Any]]]]:
    every = (row for file in found for row in _rows(file, partition))
    for id_, of in groupby(every, itemgetter("entry_id")):
        yield partition, files.id_of(id_.encode()), list(of)


def _rows(file: files.File, partition: int) -> Iterator[dict[str, Any]]:
    with pq.ParquetFile(file.path) as opened:
        there = [name for name in COLUMNS if name in opened.schema_arrow.names]  # older files have no state
        for batch in opened.iter_batches(ROWS, files.row_groups(opened, file, partition), there):
            columns = map(_listed, batch.columns)
            yield from (dict(zip(there, values, strict=True)) for values in zip(*columns, strict=True))


def _listed(column: pa.Array) -> list[Any]:
    """Much quicker than `to_pylist` alone; times as milliseconds."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    if column.null_count or not pa.types.is_integer(column.type):
        return list(column.to_pylist())
    return list(column.to_numpy().tolist())


class _Made:
    """Under the running vocabulary's numbers."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary, self._codes = vocabulary, Codes(vocabulary, restated=True)

    def entry(self, partition: int, id_: Id, rows: list[dict[str, Any]]) -> Entry:
        if rows[0]["type"] == "absorb":
            return self._absorption(partition, id_, rows[0])
        made = Entry(partition, id_, Kind.EVENTS, Draft())
        for row in rows:
            self._add(made, row)
        return made

    def _absorption(self, partition: int, id_: Id, row: dict[str, Any]) -> Entry:
        draft = Draft()
        draft.joins.append((draft.add(row["uid"], _name(row), 0, 0), row["joined"].encode()))
        return Entry(partition, id_, Kind.ABSORB, draft, state=row.get("state"), anonymous=row["joined"])

    def _add(self, made: Entry, row: dict[str, Any]) -> None:
        if row["type"] == "join":
            made.draft.joins.append((made.draft.add(row["uid"], _name(row), 0, row["ts"]), row["joined"].encode()))
            return
        code, value = self._codes.event(row)
        if row["type"] == "push":
            code = self._push(made, row, code)
        if code == UNKNOWN and row["name"]:
            made.unknown.append(row["name"])
        raw = row["raw"].encode()
        at = made.draft.add(row["uid"], _name(row), row["mid"], row["ts"], code, value, raw)
        told = self._codes.traits(row["type"], row["raw"])
        made.draft.traits += [(at, trait, bits) for trait, bits in told]

    def _push(self, made: Entry, row: dict[str, Any], code: int) -> int:
        """Its code; an entry of rows that touch no person is of another kind."""
        pushed = push.decode(row["raw"])
        view = self._vocabulary.views.get(pushed.view)
        if pushed.to == "online" and view is not None and view.external:
            made.pushes.append((f"{row['organisation']}/{pushed.id}", pushed))
        person = view is not None and view.entity == self._vocabulary.entity and pushed.to == "online"
        made.kind = Kind.EVENTS if person else Kind.PUSH
        return code if person else SILENT


def _name(row: dict[str, Any]) -> bytes:
    return f"{row['organisation']}/{row['user']}".encode()
