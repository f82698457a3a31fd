"""One lane a channel and target: how much may be under way there, and when it is asked again after it failed.

All in memory: a process that starts anew knows of no failure, and finds out again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from threading import Lock
from typing import Protocol

import msgspec

FAILURES = 5  # in a row, until a lane is left alone for a while
FIRST_REST_MS, LONGEST_REST_MS = 30_000, 600_000  # how long; doubled by each attempt after it that fails too
LONGEST_HOLD_MS = 3_600_000  # that the other side may ask for
MANY = 1_000  # lanes, of which the idle ones are then forgotten

Key = tuple[str, str]  # channel, target


class Bounds(Protocol):
    """How many attempts of a channel may be under way: to one target, and in all."""

    at_once: int
    most: int


class Lane(msgspec.Struct):
    """Times are ms since 1970. `due`: of the earliest that waits; None: nothing does, as far as is known."""

    at_once: int
    active: int = 0
    due: int | None = None
    failures: int = 0
    rests_until: int = 0
    rest_ms: int = 0  # how long it rested last; 0 while the breaker is closed
    held_until: int = 0

    def room(self, now: int) -> int:
        """How many more attempts may begin; after a rest one, whose end says whether it is over."""
        if now < max(self.rests_until, self.held_until):
            return 0
        return (1 if self.rest_ms else self.at_once) - self.active

    def succeeded(self) -> None:
        self.failures = self.rests_until = self.rest_ms = 0

    def failed(self, now: int) -> None:
        self.failures += 1
        if self.failures >= FAILURES and now >= self.rests_until:
            self.rest_ms = min(self.rest_ms * 2, LONGEST_REST_MS) or FIRST_REST_MS
            self.rests_until = now + self.rest_ms

    def hold(self, now: int, ms: float) -> None:
        """Nothing is sent for so long, as the other side asked."""
        self.held_until = max(self.held_until, now + int(min(ms, LONGEST_HOLD_MS)))

    def wakes(self) -> int | None:
        """When something may be sent next; None where nothing waits, or only the end of an attempt makes room."""
        if self.due is None or self.room(max(self.rests_until, self.held_until)) <= 0:
            return None
        return max(self.due, self.rests_until, self.held_until)

    def idle(self, now: int) -> bool:
        """Nothing would be forgotten with it."""
        return self.due is None and not (self.active or self.failures) and self.held_until <= now


class Lanes:
    """`bounds` by channel. Each has its own, so that one whose targets all hang takes no room from the others."""

    def __init__(self, bounds: Mapping[str, Bounds]) -> None:
        self._bounds = bounds
        self._lanes: dict[Key, Lane] = {}
        self._many = MANY
        self.active = Counter[str]()  # by channel
        self.counting = Lock()  # turns are committed on one thread, attempts end on another

    def of(self, key: Key) -> Lane:
        if key not in self._lanes:
            known = self._bounds.get(key[0])
            self._lanes[key] = Lane(known.at_once if known else 1)
        return self._lanes[key]

    def room(self, channel: str) -> int:
        """How many more attempts of it may begin."""
        known = self._bounds.get(channel)
        return (known.most if known else 1) - self.active[channel]

    def ended(self, key: Key) -> Lane:
        """An attempt came to its end."""
        with self.counting:
            self.active[key[0]] -= 1
            lane = self.of(key)
            lane.active -= 1
        return lane

    def ready(self, now: int) -> list[Key]:
        """Those that have something due and room for it, the longest due first."""
        due = [(lane.due, key) for key, lane in self._with_room() if lane.due is not None and lane.due <= now]
        return [key for _, key in sorted(due) if self.of(key).room(now) > 0]

    def wakes(self) -> int | None:
        """When a lane is ready next, ms since 1970."""
        return min((at for _, lane in self._with_room() if (at := lane.wakes()) is not None), default=None)

    def _with_room(self) -> list[tuple[Key, Lane]]:
        """The lanes of channels that have some left."""
        full = {channel for channel in self._bounds if self.room(channel) <= 0}
        return [(key, lane) for key, lane in list(self._lanes.items()) if key[0] not in full]

    def resting(self) -> int:
        """How many breakers are open."""
        return sum(bool(lane.rest_ms) for lane in list(self._lanes.values()))

    def overdue(self, now: int) -> int:
        """For how many ms the longest due has been due."""
        return max([0, *(now - lane.due for lane in list(self._lanes.values()) if lane.due is not None)])

    def forget(self, now: int) -> None:
        """Drops the lanes of which there is nothing to be remembered, once there are many."""
        if len(self._lanes) < self._many:
            return
        self._lanes = {key: lane for key, lane in self._lanes.items() if not lane.idle(now)}
        self._many = max(MANY, 2 * len(self._lanes))


class Draft:
    """What a turn makes of the lanes; counts only once the turn is committed."""

    def __init__(self, lanes: Lanes, now: int) -> None:
        self._lanes, self.now = lanes, now
        self._due: dict[Key, int | None] = {}
        self._taken, self._of_channel = Counter[Key](), Counter[str]()
        self._nudged: set[Key] = set()

    def due(self, key: Key) -> int | None:
        return self._due[key] if key in self._due else self._lanes.of(key).due

    def room(self, key: Key) -> int:
        lane = self._lanes.of(key)
        free = lane.at_once - lane.active if key in self._nudged else lane.room(self.now)
        return max(min(free - self._taken[key], self._lanes.room(key[0]) - self._of_channel[key[0]]), 0)

    def waits(self, key: Key, due: int) -> None:
        """Something waits there since the turn began."""
        known = self.due(key)
        self._due[key] = due if known is None else min(known, due)

    def looked(self, key: Key, due: int | None) -> None:
        """What waits there, after SQL was asked and what is taken was taken."""
        self._due[key] = due

    def take(self, key: Key) -> None:
        self._taken[key] += 1
        self._of_channel[key[0]] += 1

    def give_back(self, key: Key) -> None:
        """It was taken, but cannot be sent."""
        self._taken[key] -= 1
        self._of_channel[key[0]] -= 1

    def nudge(self, key: Key) -> None:
        """Somebody mended something: it is looked at as if it had never failed."""
        self._nudged.add(key)
        self._due[key] = 0

    def ready(self) -> list[Key]:
        """Lanes that have something due, as far as this turn knows, the longest due first."""
        keys = dict.fromkeys([*self._lanes.ready(self.now), *sorted(self._due)])
        return [key for key in keys if (due := self.due(key)) is not None and due <= self.now]

    def commit(self) -> None:
        for key in self._nudged:
            lane = self._lanes.of(key)
            lane.succeeded()
            lane.held_until = 0
        for key, due in self._due.items():
            self._lanes.of(key).due = due
        with self._lanes.counting:
            for key, n in self._taken.items():
                self._lanes.of(key).active += n
            self._lanes.active.update(self._of_channel)
