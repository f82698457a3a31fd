"""What an outcome event must not overtake: scores that were told before it, as alerts or of people sampled."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import msgspec
import redis

from feature_repo import keys
from flows.learning_items import ENDLESS, Bound, Read

PATIENCE_S = 600.0  # until alerts that nobody takes into SQL are waited for no more
Id = tuple[int, int]
NONE: Id = (0, 0)


class Mark(msgspec.Struct, frozen=True):
    """The streams' last entries: of outcome events, by source, and of alerts that wait for SQL. `since`: seconds."""

    events: dict[str, Id]
    alert: Id
    since: float


class Known:
    """Up to which outcome events all that was told before them can be read. Raises what Redis does."""

    def __init__(self, client: redis.Redis, partitions: int) -> None:
        self._client = client
        self._streams = {f"events:{p}": keys.outcomes(p) for p in range(partitions)}
        self._events: dict[str, Id] = {}
        self._next: Mark | None = None

    def mark(self) -> None:
        """To be called before people are looked for: what the engine told later may have somebody before it."""
        if self._next is None:  # else that look is waited for
            events = {name: self._last(stream) for name, stream in self._streams.items()}
            self._next = Mark(events, self._last(keys.ALERTS), time.monotonic())  # the alerts last: none is missed

    def settle(self) -> None:
        """To be called after people were looked for, and before alerts are read."""
        if self._next is None:
            return
        first: Any = self._client.xrange(keys.ALERTS, count=1)
        if not first or _id(first[0][0]) > self._next.alert or time.monotonic() - self._next.since > PATIENCE_S:
            self._events, self._next = self._next.events, None

    def bound(self, reads: Mapping[str, Read]) -> Bound:
        """Before the first event of which that is not so."""
        found = [ENDLESS]
        for name in self._streams.keys() & reads.keys():
            last = self._events.get(name, NONE)
            later = (item for item in reads[name].items if _id(item.place) > last)
            found += [(item.time, item.rank - 1) for item in later][:1]
        return min(found)

    def _last(self, stream: str) -> Id:
        found: Any = self._client.xrevrange(stream, count=1)
        return _id(found[0][0]) if found else NONE


def _id(told: bytes | str) -> Id:
    ms, _, number = (told if isinstance(told, str) else told.decode()).partition("-")
    return int(ms), int(number)
