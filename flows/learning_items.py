"""What the learner reads, from all its sources, in one order that no cut of the batches changes.

The order is by time, then by source, then by position. Of a source the time never goes back: an item counts as of the
latest time that the source told up to it.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Protocol, TypeAlias

import msgspec

from flows.learners.example import Example


class Seen(msgspec.Struct, frozen=True, gc=False):
    """A score that was told. `until`: the end of its horizon (0: its label comes only if it is told)."""

    example: Example
    until: int


class Told(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What somebody recorded of an alert or a prediction; `at`: when it came about, None: not told.

    `weak`: it holds unless something else was told of it.
    """

    source: str
    id: str
    organisation: str
    label: int
    at: int | None
    recorded_at: int
    scored_at: int = 0
    model: str = ""
    weak: bool = False


class Happened(msgspec.Struct, frozen=True, gc=False):
    """An outcome event. `person`: `organisation/user`."""

    person: str
    event: str
    ts: int


class Unreadable(msgspec.Struct, frozen=True, gc=False):
    """What cannot be learned from, and why."""

    source: str
    id: str
    reason: str


class Due(msgspec.Struct, frozen=True, gc=False):
    """The end of an example's horizon. `source`: of the example."""

    id: str
    source: str


What: TypeAlias = Seen | Told | Happened | Unreadable | Due


class Item(msgspec.Struct, frozen=True, gc=False):
    """`rank`: of its source; `place`: where that is read up to once this is learned; empty: it has no place."""

    time: int
    rank: int
    place: str
    what: tuple[What, ...]


class Position(msgspec.Struct, frozen=True):
    """Up to where a source was read: the last place, and the latest time told up to it."""

    place: str = ""
    time: int = 0


class Read(msgspec.Struct):
    """What a source has beyond a position, in its order; `more`: there is still more, later than all of these."""

    items: list[Item]
    more: bool = False


class Source(Protocol):
    """`name`: under which its position is kept."""

    name: str

    def read(self, after: Position, most: int) -> Read: ...


Bound = tuple[float, int]  # time and rank
ENDLESS: Bound = (float("inf"), 0)


def bound(reads: Sequence[Read]) -> Bound:
    """Up to where all is known: what comes later in the order may have something before it that was not read yet."""
    ends = [(read.items[-1].time, read.items[-1].rank) for read in reads if read.more and read.items]
    return min(ends, default=ENDLESS)


def merged(reads: Sequence[Read], end: Bound) -> list[Item]:
    """All up to there, in the order."""
    lists = [[item for item in read.items if (item.time, item.rank) <= end] for read in reads]
    return list(heapq.merge(*lists, key=lambda item: (item.time, item.rank)))
