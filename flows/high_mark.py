"""The high-water mark: how many events were acknowledged, kept outside Redis in `<home>/marks`.

So a store that was emptied or restored older is noticed, though nothing in it contradicts itself, and what is gone is
counted. Whoever appends has a file, named by its port, and writes it before it acknowledges: a kill leaves it exact; a
power cut may leave it older, and then less is noticed.
"""

from __future__ import annotations

import logging
import os
import shutil
import struct
from contextlib import suppress
from pathlib import Path

import msgspec

from feature_repo.settings import Settings
from flows.partition import EntryId
from flows.store import Store

_log = logging.getLogger(__name__)
_HEAD = struct.Struct("<qq")  # the store's seed; 1 where it takes time from events
_END = struct.Struct("<qqq")  # of each partition: accepted events, and the newest entry's id


class End(msgspec.Struct, frozen=True, order=True):
    """How far a partition had come: events accepted in all, and its newest entry with any."""

    accepted: int = 0
    entry: EntryId = EntryId(0, 0)


class Marked(msgspec.Struct, frozen=True):
    """What a home knows of its store."""

    store: Store
    ends: list[End]


class HighMark:
    """Of one process that appends. It begins at what others of this home have marked."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._head = _HEAD.pack(store.seed, store.clock == "log")
        known = marked(settings.home, store.seed)
        self.ends = known.ends if known else [End() for _ in range(store.partitions)]
        self._file = _opened(_place(settings.home) / str(settings.port))

    def raise_to(self, ends: list[End]) -> None:
        """The partitions came so far. Where the disk is full or fails, the file stays behind until the next time."""
        self.ends = ends
        if self._file is not None:
            with suppress(OSError):
                os.pwrite(self._file, self._head + b"".join(map(_packed, ends)), 0)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def marked(home: Path, seed: int | None = None) -> Marked | None:
    """The highest that any process of this home marked, of the store of that seed; None where none did."""
    found = [
        mark
        for path in sorted(_place(home).glob("*"))
        if (mark := _read(path)) and any(end.accepted for end in mark.ends)
    ]
    found = [mark for mark in found if seed is None or mark.store.seed == seed]
    same = [mark.ends for mark in found if mark.store == found[0].store]
    return Marked(found[0].store, [max(ends) for ends in zip(*same, strict=True)]) if found else None


def forget(home: Path) -> None:
    """The store was made anew, and what it lacks was told."""
    shutil.rmtree(_place(home), ignore_errors=True)


def _place(home: Path) -> Path:
    return home / "marks"


def _opened(path: Path) -> int | None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        _log.warning("a store that is restored older will not be noticed: %s", error)
        return None


def _read(path: Path) -> Marked | None:
    """None where it was cut off, or is empty."""
    content = path.read_bytes()
    if len(content) <= _HEAD.size or (len(content) - _HEAD.size) % _END.size:
        return None
    seed, log = _HEAD.unpack_from(content)
    ends = [End(accepted, EntryId(ms, seq)) for accepted, ms, seq in _END.iter_unpack(content[_HEAD.size :])]
    return Marked(Store(len(ends), "log" if log else "wall", seed), ends)


def _packed(end: End) -> bytes:
    return _END.pack(end.accepted, end.entry.ms, end.entry.seq)
