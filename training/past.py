"""Reads a real past into a `Stream`, in columns: JSON lines of Segment calls, or the lake."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.vocabulary import Vocabulary
from training.backfill import Stream
from training.past_lake import Columns, from_lake
from training.past_lines import NotReadable, from_lines
from training.people import Array

__all__ = ["NotReadable", "Past", "past", "read"]


class Past(msgspec.Struct, frozen=True):
    """A history, and who its people are: person i of the stream is `names[i]`."""

    stream: Stream
    names: pa.StringArray

    def find(self, users: pa.Array) -> Array:
        """Each user's number; that of nobody (`stream.people`) for one whom the history does not know."""
        found = pc.fill_null(pc.index_in(users, value_set=self.names), len(self.names))
        return np.asarray(found, np.int64)


def past(path: Path, vocabulary: Vocabulary) -> Past:
    """A file of JSON lines or a lake's directory, in the log's order.

    In a lake users are `organisation/user`. What an anonymous person did counts as the user's too, from when they
    were identified. Raises NotReadable that names the line.
    """
    if not path.exists():
        raise NotReadable(f"{path}: expected JSON lines of Segment calls or a lake's directory, there is nothing")
    found = from_lake(path, vocabulary) if path.is_dir() else from_lines(path, vocabulary)
    return Past(_stream(found), found.names)


def read(path: Path, vocabulary: Vocabulary) -> tuple[Stream, dict[str, int]]:
    """As `past`, with each user's number by name."""
    found = past(path, vocabulary)
    return found.stream, {name: i for i, name in enumerate(found.names.to_pylist())}


def _stream(of: Columns) -> Stream:
    start, end = (int(of.now.min()), int(of.now.max())) if len(of.now) else (0, 0)
    told_of, trait, bits, at, known = of.told.columns()
    events = (of.person, of.code, of.value, of.ts, of.now)
    return Stream(len(of.names), start, end, *events, told_of, trait, bits, at, known, of.seen)
