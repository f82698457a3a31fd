"""The lake's files: `events/date=YYYY-MM-DD/<partition>-<first entry id>-<last entry id>.parquet`.

The same under `features` for the features as served and `predictions` for what was answered; the ids are of the stream
that each comes from. The date is that of the log's time, of predictions the store's. A name says what a file holds, so
that readers and a restart need no list of files beside them: of two files of a partition, one that lies within the
other is superseded by it.

Once a date is over its partitions share a file, `<lowest>_<highest>-<first>-<last>.parquet`, a row group never of two.
From which entry to which it holds each partition stands in its footer, and supersedes by partition.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from itertools import groupby
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from flows.lake_rows import concat

EVENTS, FEATURES, PREDICTIONS = "events", "features", "predictions"
ROW_GROUP = 65_536
FULL = 500_000  # rows from which a file is not merged further
_NAME = re.compile(r"(\d+)(?:_(\d+))?-(\d+)-(\d+)-(\d+)-(\d+)\.parquet")
_SPANS = b"telltale.spans"  # in the footer of a shared file
Id = tuple[int, int]  # of a log entry: ms, number
Span = tuple[Id, Id]  # first and last


class File(msgspec.Struct, frozen=True):
    """One file, as its name tells. `highest`: of a shared one, its highest partition; `partition` is the lowest."""

    path: Path
    partition: int
    first: Id
    last: Id
    highest: int | None = None

    @property
    def date(self) -> str:
        return self.path.parent.name.removeprefix("date=")

    @property
    def shared(self) -> bool:
        return self.highest is not None

    def may_hold(self, partition: int) -> bool:
        return self.partition <= partition <= (self.partition if self.highest is None else self.highest)

    def spans(self) -> dict[int, Span]:
        """From which entry to which, by partition."""
        return _spans(self.path) if self.shared else {self.partition: (self.first, self.last)}

    def within(self, other: File) -> bool:
        likely = other.may_hold(self.partition) and other.first <= self.first and self.last <= other.last
        if not likely or self.date != other.date or self == other:
            return False
        theirs = other.spans()
        return all(p in theirs and theirs[p][0] <= a and b <= theirs[p][1] for p, (a, b) in self.spans().items())


@lru_cache(maxsize=20_000)  # a file that was renamed into its place never changes
def _spans(path: Path) -> dict[int, Span]:
    found = pq.read_metadata(path).metadata[_SPANS]
    return msgspec.json.decode(found, type=dict[int, Span])


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
    lowest, highest, *rest = found.groups()
    ids = list(map(int, rest))
    return File(path, int(lowest), (ids[0], ids[1]), (ids[2], ids[3]), None if highest is None else int(highest))


def everything(lake: Path, partition: int | None = None, since: str = "", kind: str = EVENTS) -> list[File]:
    """All files of a kind, superseded ones too, in the log's order within a partition; from a date on.

    Of one partition: its own, and those shared that may hold some of it.
    """
    found = listed(lake / kind, since=since)
    return found if partition is None else [f for f in found if f.may_hold(partition)]


def listed(place: Path, date: str = "*", since: str = "") -> list[File]:
    """Files of one date, or of all from one on. `place`: the lake's directory of a kind."""
    found = map(parsed, place.glob(f"date={date}/*.parquet"))
    return sorted((f for f in found if f and f.date >= since), key=_order)


def _order(file: File) -> tuple[str, bool, int, Id, Id]:
    """A shared file holds the whole of its partitions; what came for them later lies beside it."""
    return file.date, not file.shared, file.partition, file.first, file.last


def current(files: Iterable[File]) -> list[File]:
    """Without those that lie within another. `files` in the log's order."""
    files = list(files)
    shared = {date: list(them) for date, them in groupby(filter(_is_shared, files), lambda f: f.date)}
    kept: list[File] = []
    for file in files:
        if any(file.within(other) for other in shared.get(file.date, ())):
            continue
        while kept and kept[-1].within(file):
            kept.pop()
        if not kept or not file.within(kept[-1]):
            kept.append(file)
    return kept


def _is_shared(file: File) -> bool:
    return file.shared


def lasts(lake: Path, kind: str = EVENTS) -> dict[int, Id]:
    """By partition, the last entry that is in a file."""
    found: dict[int, Id] = {}
    for file in everything(lake, kind=kind):
        for partition, (_, last) in file.spans().items():
            found[partition] = max(last, found.get(partition, last))
    return found


def row_groups(opened: pq.ParquetFile, file: File, partition: int) -> list[int]:
    """Which of a file's row groups hold this partition."""
    every = list(range(opened.metadata.num_row_groups))
    if not file.shared:
        return every
    column = opened.schema_arrow.names.index("partition")
    found = [opened.metadata.row_group(group).column(column).statistics for group in every]
    return [group for group in every if found[group].min == partition]


def rows(file: File) -> int:
    return int(pq.read_metadata(file.path).num_rows)


def write(place: Path, older: list[File], new: pa.Table | None, span: tuple[int, Id, Id]) -> File:
    """One file of what the older ones hold and `new`: there whole, on disk, or not at all. `span`: its name's parts.

    Its columns are those of all of them. `place`: the lake's directory of this kind.
    """
    path = path_of(place, *span)
    schema = pa.unify_schemas([*([] if new is None else [new.schema]), *(pq.read_schema(file.path) for file in older)])
    fresh = _fresh(path)
    _directory(path.parent)
    with pq.ParquetWriter(fresh, schema, compression="zstd") as writer:
        for group in _groups(older, new, schema):
            writer.write_table(group, ROW_GROUP)
    _sync(fresh)
    fresh.replace(path)
    _sync(path.parent)
    return File(path, *span)


def share(pieces: list[File]) -> Iterator[None]:
    """One file of what several partitions have of a date, a row group a step; then the pieces go.

    There whole, on disk, or not at all; given up by closing the iterator. `pieces`: all that these partitions have.
    """
    own = {p: list(them) for p, them in groupby(pieces, lambda f: f.partition)}
    spans = {p: (them[0].first, them[-1].last) for p, them in own.items()}
    first, last = min(a for a, _ in spans.values()), max(b for _, b in spans.values())
    path = pieces[0].path.with_name("{}_{}-{}-{}-{}-{}.parquet".format(min(own), max(own), *first, *last))
    schema = pa.unify_schemas([pq.read_schema(piece.path) for piece in pieces])
    schema = schema.with_metadata({_SPANS: msgspec.json.encode(spans)})
    fresh = _fresh(path)
    try:
        with pq.ParquetWriter(fresh, schema, compression="zstd") as writer:
            for them in own.values():
                for group in _groups(them, None, schema):
                    if len(group):
                        writer.write_table(group, ROW_GROUP)
                    yield
        _sync(fresh)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    _sync(path.parent)
    remove(pieces)


def remove(stale: Iterable[File]) -> None:
    for file in stale:
        file.path.unlink(missing_ok=True)


def clear(place: Path) -> None:
    """What a kill left unfinished. `place`: the lake's directory of a kind."""
    for fresh in place.glob("date=*/*.new"):
        fresh.unlink()


def _fresh(path: Path) -> Path:
    """Under this name nobody reads it: pandas and Arrow pass over names with a dot before them."""
    return path.with_name(f".{path.stem}.new")


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
