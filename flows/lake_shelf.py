"""One partition's files of one kind: written, merged as they grow, brought in line after a kill."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import groupby
from pathlib import Path

import msgspec
import pyarrow as pa

from flows import lake_files as files
from flows.lake_files import File, Id, remove


class LakeError(Exception):
    """The lake cannot be written; the message says why and what to do."""


class Part(msgspec.Struct, frozen=True):
    """Rows of one date, and the first and last entry that they come from."""

    first: Id
    last: Id
    rows: pa.Table


class Shelf:
    """Files of the open date are merged as they grow, so that their number stays small."""

    def __init__(self, lake: Path, partition: int, kind: str) -> None:
        self.partition = partition
        self._lake, self._kind, self._place = lake, kind, lake / kind
        self._open: list[tuple[File, int]] = []  # of the latest date, with their rows

    def recover(self, position: Id, logged: Callable[[Id], bool]) -> Id:
        """Removes what was written and not committed, or superseded and not removed; merges each date that is over.

        `logged`: whether an entry is still in its stream. Raises LakeError rather than remove what is not. Returns
        where to go on: the position, or beyond it the last entry that a file has which other partitions share.
        """
        found = [f for f in files.everything(self._lake, self.partition, kind=self._kind) if self._holds(f)]
        for file in found:
            last = file.spans()[self.partition][1]
            if last > position and not logged(last):
                raise LakeError(
                    f"{file.path} holds entries that are neither committed nor in the log: Redis went back in time. "
                    "Move the lake away, or set another TELLTALE_HOME"
                )
        shared = [f for f in found if f.shared]
        position = max([position, *(f.spans()[self.partition][1] for f in shared)])
        standing = files.current(f for f in found if f.shared or f.last <= position)
        remove(f for f in found if f not in standing)
        for _, dated in groupby((f for f in standing if not f.shared), lambda f: f.date):
            self._close_date()
            self._open = [(f, files.rows(f)) for f in dated]
        return position

    def _holds(self, file: File) -> bool:
        return self.partition in file.spans()

    def write(self, parts: Iterable[Part]) -> list[File]:
        """Writes a file a part; returns the files that these supersede, to be removed once the position stands."""
        stale: list[File] = []
        for part in parts:
            if self._open and self._open[-1][0].date != files.date_of(part.first):
                stale += self._merge([f for f, count in self._open if count < files.FULL])
                self._open = []
            stale += self._add(part)
        return stale

    def forget(self, until: str) -> None:
        """Dates up to this one were removed."""
        self._open = [(file, count) for file, count in self._open if file.date > until]

    def leave(self, date: str) -> None:
        """The files of this date are somebody else's to merge."""
        self._open = [(file, count) for file, count in self._open if file.date != date]

    def last(self) -> Id:
        """The last entry that is in a file; (0, 0) where there is none."""
        return files.lasts(self._lake, self._kind).get(self.partition, (0, 0))

    def _add(self, part: Part) -> list[File]:
        older, count = self._small(len(part.rows))
        first = older[0].first if older else part.first
        file = files.write(self._place, older, part.rows, (self.partition, first, part.last))
        self._open.append((file, count))
        return [f for f in older if f.path != file.path]

    def _small(self, count: int) -> tuple[list[File], int]:
        """The newest open files that are not much larger than what comes, taken off; and the rows of all."""
        taken: list[File] = []
        while self._open and self._open[-1][1] <= 2 * count and count < files.FULL:
            file, more = self._open.pop()
            taken.insert(0, file)
            count += more
        return taken, count

    def _close_date(self) -> None:
        remove(self._merge([f for f, count in self._open if count < files.FULL]))

    def _merge(self, dated: list[File]) -> list[File]:
        neighbours = len(dated) > 1 and dated == [f for f, _ in self._open][-len(dated) :]
        if not neighbours:
            return []
        files.write(self._place, dated, None, (self.partition, dated[0].first, dated[-1].last))
        return dated
