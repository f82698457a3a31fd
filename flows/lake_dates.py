"""Dates that are over: what the partitions have of one becomes a file that they share, a row group at a time.

It can be given up at any moment: until the shared file is there whole, its pieces are. Nothing that comes for a date
later is lost by it either, since a shared file supersedes only what lies within it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import redis

from feature_repo import keys
from flows import lake_files as files
from flows.lake_files import EVENTS, FEATURES, File, date_of, id_of
from flows.lake_shelf import Shelf
from flows.running import REDIS_DOWN, patiently

LOOK_SECONDS = 5.0  # between two looks at which dates are over
STEPS_SECONDS = 0.1  # that steps may take at once
BUSY_SECONDS = 1.0  # between two steps while events come without a pause
EVER = "9999"


class Shared:
    """The dates of one kind."""

    def __init__(self, lake: Path, kind: str, shelves: Sequence[Shelf]) -> None:
        self._place, self._shelves = lake / kind, shelves
        self._over = ""  # dates before this one were looked at, or are due
        self._due: list[str] = []
        self._work: Iterator[None] | None = None
        self._date = ""

    def recover(self) -> None:
        files.clear(self._place)

    def begin(self, over: str) -> None:
        """Dates before `over` get nothing any more."""
        if over > self._over:
            found = (place.name.removeprefix("date=") for place in self._place.glob("date=*"))
            self._due = sorted({*self._due, *(date for date in found if self._over <= date < over)})
            self._over = over

    def step(self) -> bool:
        """A row group further; whether there was anything to do."""
        if self._work is None and self._due:
            self._date = self._due.pop(0)
            self._work = self._merged(self._date)
        if self._work is None:
            return False
        if not (self._place / f"date={self._date}").is_dir():  # its time was up
            self.stop()
        elif next(self._work, self) is self:
            self._work = None
        return True

    def stop(self) -> None:
        """Gives up what it is at."""
        if self._work is not None:
            self._work.close()  # type: ignore[attr-defined]  # a generator
        self._work = None

    def _merged(self, date: str) -> Iterator[None]:
        for shelf in self._shelves:
            shelf.leave(date)
        for pieces in _groups(files.current(files.listed(self._place, date))):
            yield from files.share(pieces)


class Dates:
    """Of both kinds: events, and features as served."""

    def __init__(
        self, lake: Path, client: redis.Redis, shelves: dict[str, Sequence[Shelf]], clock: Callable[[], float]
    ) -> None:
        self._client, self._clock = client, clock
        self._partitions = range(len(shelves[EVENTS]))
        self._kinds = {kind: Shared(lake, kind, them) for kind, them in shelves.items()}
        self._looked_at = self._worked_at = float("-inf")

    def recover(self) -> None:
        """Removes what a kill left unfinished."""
        for kind in self._kinds.values():
            kind.recover()

    def work(self, *, busy: bool) -> None:
        """For a moment, in steps of a row group; while `busy` only now and then."""
        now = self._clock()
        if busy and now - self._worked_at < BUSY_SECONDS:
            return
        if now - self._looked_at >= LOOK_SECONDS:
            self._look()
        while any(kind.step() for kind in self._kinds.values()):
            if busy or self._clock() - now >= STEPS_SECONDS:
                break
        self._worked_at = self._clock()

    def stop(self) -> None:
        for kind in self._kinds.values():
            kind.stop()

    def _look(self) -> None:
        """Asks Redis which dates are over."""
        self._looked_at = self._clock()
        over = patiently(lambda: _over(self._client, self._partitions), REDIS_DOWN)
        for kind, date in (over or {}).items():
            self._kinds[kind].begin(date)


def _over(client: redis.Redis, partitions: Sequence[int]) -> dict[str, str]:
    """By kind, the first date for which something may still come.

    Events: that of the partition of which the lake has read least. Features: the engine must be past a date too, since
    it hands them over in the transaction that writes its position, and the lake must have taken what it handed over.
    """
    with client.pipeline(transaction=True) as pipe:
        for p in partitions:
            pipe.get(keys.lake_position(p)).get(keys.position(p)).xrange(keys.served(p), count=1)
        found: list[Any] = pipe.execute()
    events = min(_date(position) for position in found[::3])
    engine = min(_date(position) for position in found[1::3])
    waiting = min(_date(oldest[0][0]) if oldest else EVER for oldest in found[2::3])
    return {EVENTS: events, FEATURES: min(events, engine, waiting)}


def _date(position: bytes | None) -> str:
    return date_of(id_of(position or b"0-0"))


def _groups(standing: list[File]) -> Iterator[list[File]]:
    """Whose files are to be one: of whole partitions that share none yet, as many as do not make it too large."""
    shared = {p for file in standing if file.shared for p in file.spans()}
    group, total = list[File](), 0
    for partition, them in groupby((f for f in standing if not f.shared), lambda f: f.partition):
        own = list(them)
        count = sum(map(files.rows, own))
        if partition in shared or count >= files.FULL:
            continue
        if total + count > files.FULL:
            yield from [group] if len(group) > 1 else []
            group, total = [], 0
        group, total = group + own, total + count
    if len(group) > 1:
        yield group
