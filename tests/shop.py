"""A small subscription shop for the domain that `telltale init` writes: a history, labels, and the week after."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

START = datetime(2026, 1, 1, tzinfo=UTC)
PEOPLE, DAYS = 300, 210
MONTH = 30


def write(place: Path, seed: int = 1) -> list[str]:
    """history.jsonl, labels.csv and week.jsonl in `place`; returns who is on the way out in that week."""
    rng = np.random.default_rng(seed)
    ends = np.where(rng.random(PEOPLE) < 0.6, rng.integers(40, DAYS + 25, PEOPLE), 10_000)  # the day of cancelling
    calls = [call for person in range(PEOPLE) for call in _life(rng, person, int(ends[person]))]
    calls.sort(key=lambda call: call["timestamp"])
    today = (START + timedelta(days=DAYS)).isoformat()
    _lines(place / "history.jsonl", [call for call in calls if call["timestamp"] < today])
    _lines(place / "week.jsonl", [call for call in calls if call["timestamp"] >= today])
    (place / "labels.csv").write_text("user,as_of,label\n" + "".join(_labels(ends)))
    return [_name(person) for person in np.flatnonzero((ends >= DAYS + 3) & (ends < DAYS + 20)).tolist()]


def _life(rng: np.random.Generator, person: int, end: int) -> list[dict[str, Any]]:
    """A subscriber's days: fewer visits in the last month, and looks at how to cancel."""
    found = []
    for day in range(min(DAYS + 7, end + 1)):
        left = end - day
        often = 0.35 if left > MONTH else 0.12
        found += [_call(rng, person, day, "Session Started")] * int(rng.random() < often)
        if rng.random() < 0.05:
            found.append(_call(rng, person, day, "Order Completed", total=round(20 + 40 * rng.random(), 2)))
        if rng.random() < (0.15 if left <= MONTH else 0.002):
            found.append(_call(rng, person, day, "Cancellation Page Viewed"))
        if rng.random() < (0.03 if left <= MONTH else 0.003):
            found.append(_call(rng, person, day, "Payment Failed"))
        if not left:
            found.append(_call(rng, person, day, "Subscription Cancelled"))
    return found


def _call(rng: np.random.Generator, person: int, day: int, event: str, **properties: Any) -> dict[str, Any]:
    moment = START + timedelta(days=day, seconds=int(rng.integers(86_400)))
    return {
        "type": "track",
        "userId": _name(person),
        "event": event,
        "timestamp": moment.isoformat(),
        "properties": properties,
    }


def _labels(ends: np.ndarray[Any, Any]) -> list[str]:
    """Of each who is still there at a fortnight's end: do they cancel within 30 days? Where that is known by now."""
    days = range(MONTH, DAYS - MONTH + 1, 15)
    return [
        f"{_name(person)},{(START + timedelta(days=day)).isoformat()},{int(end - day < MONTH)}\n"
        for day in days
        for person, end in enumerate(ends.tolist())
        if end >= day
    ]


def _name(person: int) -> str:
    return f"subscriber-{person:03}"


def _lines(path: Path, calls: list[dict[str, Any]]) -> None:
    path.write_bytes(b"\n".join(map(msgspec.json.encode, calls)) + b"\n")
