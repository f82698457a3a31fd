"""The script that an engineer writes in an afternoon: a dictionary of people, a deque of events each, `json.loads`.

`python script.py LINES MODEL`. Nothing is stored, a crash loses all, and late events stand where they came. It scores
those who were touched every 1,000 lines.
"""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from pathlib import Path

import numpy as np
from model import Scorer, tell

HOUR = 3_600_000
EVERY = 1_000
TYPES = {f"event_{i:02d}": i for i in range(12)}


class Person:
    """Events of the trailing hour and of the trailing 24, and how many there are of each type."""

    __slots__ = ("counts", "day", "hour")

    def __init__(self) -> None:
        self.hour: deque[tuple[int, int]] = deque()
        self.day: deque[tuple[int, int]] = deque()
        self.counts = [0] * 24

    def add(self, kind: int, ts: int) -> None:
        self.hour.append((ts, kind))
        self.day.append((ts, kind))
        self.counts[kind] += 1
        self.counts[12 + kind] += 1
        self._expire(self.hour, ts - HOUR, 0)
        self._expire(self.day, ts - 24 * HOUR, 12)

    def _expire(self, events: deque[tuple[int, int]], before: int, first: int) -> None:
        while events[0][0] <= before:
            self.counts[first + events.popleft()[1]] -= 1


def main(lines: Path, model: Path) -> None:
    scorer, people, touched, n = Scorer(model), dict[str, Person](), set[str](), 0
    began = time.perf_counter()
    with lines.open() as file:
        for n, line in enumerate(file, 1):
            event = json.loads(line)
            user = event["user"]
            person = people.get(user)
            if person is None:
                person = people[user] = Person()
            person.add(TYPES[event["event"]], event["ts"])
            touched.add(user)
            if n % EVERY == 0:
                scorer.scores(np.array([people[user].counts for user in touched], np.float32))
                touched.clear()
    tell(n, time.perf_counter() - began, scorer)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
