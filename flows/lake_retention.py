"""How long the lake keeps what it holds: dates that are over for longer are removed, and said to be."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

import msgspec
import redis

from feature_repo import keys
from flows.lake_files import EVENTS, FEATURES, PREDICTIONS
from flows.lake_shelf import Shelf
from flows.lake_store import identity, keep
from flows.running import REDIS_DOWN, patiently, say

REMOVED = "dates_removed_total"


class Retention:
    """`days` = 0 keeps everything. Today is the latest date of the events' files: the log's time, no clock's."""

    def __init__(
        self, lake: Path, client: redis.Redis, days: int, events: Sequence[Shelf], others: Sequence[Shelf]
    ) -> None:
        self._lake, self._client, self._days = lake, client, days
        self._events, self._others = events, others
        self._today = ""

    def apply(self) -> None:
        """Looks when a new date has begun, and at the start."""
        today = max((place.name[5:] for place in _dates(self._lake / EVENTS)), default="")
        if today and today != self._today:
            self._today = today
            if self._days:
                self._remove(str(date.fromisoformat(today) - timedelta(days=self._days)))

    def _remove(self, until: str) -> None:
        """Dates up to `until`, first noted and then removed, so that nobody takes what is left for all there was."""
        every = (place for kind in (EVENTS, FEATURES, PREDICTIONS) for place in _dates(self._lake / kind))
        over = [place for place in every if place.name[5:] <= until]
        if not over:
            return
        whose = identity(self._lake)
        if whose is not None:
            keep(self._lake, msgspec.structs.replace(whose, removed_until=max(until, whose.removed_until)))
        for shelf in (*self._events, *self._others):
            shelf.forget(until)
        for place in over:
            shutil.rmtree(place)
            say(f"removed {place.parent.name} of {place.name[5:]}: older than TELLTALE_LAKE_DAYS={self._days}")
        patiently(lambda: self._client.hincrby(keys.LAKE, REMOVED, len(over)), REDIS_DOWN)


def _dates(kind: Path) -> list[Path]:
    return sorted(kind.glob("date=*"))
