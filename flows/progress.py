"""What a partition has counted since its last write, beside the rows themselves."""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec
import numpy as np

from feature_repo import keys
from feature_repo.declare import Array
from flows.flush import Commands
from flows.outcome_events import OutcomeEvent
from flows.resp import pack

OUTCOMES = ("processed", "duplicate", "unknown", "late", "quarantined", "lost")  # lost: told by `gaps.py` alone


class Dead(msgspec.Struct):
    """An entry set aside, and why."""

    id: bytes
    reason: str
    fields: dict[bytes, bytes]


class Progress:
    """One partition's part of the next transaction."""

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.position = b""
        self.patient = False  # rows for the lake alone were counted, which nobody waits for
        self.since = 0.0  # monotonic seconds of the oldest unwritten change
        self.counts = dict.fromkeys(OUTCOMES, 0)
        self.seen: list[tuple[int, bytes]] = []
        self.tick = 0
        self.dead: list[Dead] = []
        self.outcomes: list[OutcomeEvent] = []

    def remember(self, mids: Array, minutes: Array) -> None:
        """Message identities first seen now, in the order of the log."""
        if minutes[0] == minutes[-1]:  # the usual case
            self.seen.append((int(minutes[0]), mids.tobytes()))
            return
        cuts = np.flatnonzero(minutes[1:] != minutes[:-1]) + 1
        for part, minute in zip(np.split(mids, cuts), np.split(minutes, cuts), strict=True):
            if len(part):
                self.seen.append((int(minute[0]), part.tobytes()))

    def commands(self, into: Commands, minutes: deque[int], horizon: int) -> None:
        """Append this partition's commands; `minutes` are those that have a `seen` key, oldest first."""
        p = self.partition
        into.add("SET", keys.position(p), self.position)
        for name, count in self.counts.items():
            if count:
                into.add("HINCRBY", keys.counts(p), name, count)
        if self.tick:
            into.add("SET", keys.tick(p), self.tick)
        for minute, ids in self.seen:
            into.add("APPEND", keys.seen(p, minute), ids)
            if not minutes or minutes[-1] < minute:
                minutes.append(minute)
                into.add("ZADD", keys.seen_minutes(p), minute, minute)
        while minutes and minutes[0] + horizon < minutes[-1]:
            old = minutes.popleft()
            into.add("DEL", keys.seen(p, old))
            into.add("ZREM", keys.seen_minutes(p), old)
        for dead in self.dead:
            fields: list[Any] = [x for pair in dead.fields.items() for x in pair]
            into.add_packed(pack("XADD", keys.DEAD, "*", "partition", p, "id", dead.id, "reason", dead.reason, *fields))
