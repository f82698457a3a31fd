"""The lake's files: `events/date=YYYY-MM-DD/<partition>-<first entry id>-<last entry id>.parquet`.

The same under `features` for the features as served; the ids are of the stream that each comes from. The date is that
of the log's time. A name says what a file holds, so that readers and a restart need no list of files beside them: of
two files of a partition, one that lies within the other is superseded by it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from flows.lake_rows import concat

EVENTS, FEATURES = "events", "features"
ROW_GROUP = 65_536
FULL = 500_000  # rows from which a file is not merged further
_NAME = re.compile(r"(\d+)-(\d+)-(\d+)-(\d+)-(\d+)\.parquet")
Id = tuple[int, int]  # of a log entry: ms, number


class File(msgspec.Struct, frozen=True):
    """One file, as its name tells."""

    path: Path
    partition: int
    first: Id
    last: Id

    @property
    def date(self) -> str:
        return self.path.parent.name.removeprefix("date=")

    def within(self, other: File) -> bool:
        same = self.partition == other.partition and self.date == other.date
        return same and self != other and other.first <= self.first and self.last <= other.last


def id_of(text: bytes) -> Id:
    ms, _, number = text.partition(b"-")
    return int(ms), int(number or 0)


def date_of(entry: Id) -> str:
    return datetime.fromtimestamp(entry[0] / 1000, UTC).strftime("%Y-%m-%d")


def path_of(place: Path, partition: int, first: Id, last: Id) -> Path:
    name = "-".join(map(str, (partition, *first, *last)))
    return place / f"date={date_of(first)}" / f"{name}.parquet"


def parsed(path: Path) -> File | None:
    """What the name says; None where it is no file of the lake."""
    found = _NAME.fullmatch(path.name)
    if not found:
        return None
    partition, *ids = map(int, found.groups())
    return File(path, partition, (ids[0], ids[1]), (ids[2], ids[3]))


def everything(lake: Path, partition: int | None = None, since: str = "", kind: str = EVENTS) -> list[File]:
    """All files of a kind, superseded ones too, in the log's order; of one partition, from a date on."""
    which = "*" if partition is None else f"{partition}-*"
    found = map(parsed, (lake / kind).glob(f"date=*/{which}.parquet"))
    return sorted((f for f in found if f and f.date >= since), key=lambda f: (f.partition, f.first, f.last))


def current(files: Iterable[File]) -> list[File]:
    """Without those that lie within another. `files` in the log's order."""
    kept: list[File] = []
    for file in files:
        while kept and kept[-1].within(file):
            kept.pop()
        if not kept or not file.within(kept[-1]):
            kept.append(file)
    return kept


def rows(file: File) -> int:
    return int(pq.read_metadata(file.path).num_rows)


def write(place: Path, older: list[File], new: pa.Table | None, span: tuple[int, Id, Id]) -> File:
    """One file of what the older ones hold and `new`: there whole, on disk, or not at all. `span`: its name's parts.

    Its columns are those of all of them. `place`: the lake's directory of this kind.
    """
    path = path_of(place, *span)
    schema = pa.unify_schemas([*([] if new is None else [new.schema]), *(pq.read_schema(file.path) for file in older)])
    fresh = path.with_suffix(".new")
    _directory(path.parent)
    with pq.ParquetWriter(fresh, schema, compression="zstd") as writer:
        for group in _groups(older, new, schema):
            writer.write_table(group, ROW_GROUP)
    _sync(fresh)
    fresh.replace(path)
    _sync(path.parent)
    return File(path, *span)


def _groups(older: list[File], new: pa.Table | None, schema: pa.Schema) -> Iterator[pa.Table]:
    """In full row groups, so that merging a day's many files needs the memory of one group."""
    waiting, count = [], 0
    for part in _parts(older, new):
        waiting.append(part)
        count += len(part)
        if count >= ROW_GROUP:
            yield concat(waiting, schema)
            waiting, count = [], 0
    if waiting:
        yield concat(waiting, schema)


def _parts(older: list[File], new: pa.Table | None) -> Iterator[pa.Table]:
    for file in older:
        with pq.ParquetFile(file.path) as opened:
            for batch in opened.iter_batches(ROW_GROUP):
                yield pa.Table.from_batches([batch])
    if new is not None:
        yield new


def _directory(path: Path) -> None:
    if path.is_dir():
        return
    path.mkdir(parents=True, exist_ok=True)
    for parent in (path.parent, path.parent.parent):
        _sync(parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
