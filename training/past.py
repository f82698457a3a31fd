"""Reads a real past into a `Stream`: JSON lines of Segment calls, or the lake."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import xxhash

from feature_repo.declare import Trait
from feature_repo.vocabulary import SILENT, UNKNOWN, Vocabulary
from flows.lake_files import everything
from flows.lake_read import LakeReader
from flows.store import Store
from training.backfill import Stream


class NotReadable(ValueError):
    """The history, or a line of it, is not what was expected."""


class Call(msgspec.Struct):
    """What counts of a Segment call."""

    type: str = "track"
    messageId: str | None = None  # noqa: N815  # Segment's names
    userId: str | int | None = None  # noqa: N815
    anonymousId: str | None = None  # noqa: N815
    event: str | None = None
    timestamp: str | None = None
    originalTimestamp: str | None = None  # noqa: N815
    properties: dict[str, Any] | None = None
    traits: dict[str, Any] | None = None

    @property
    def user(self) -> str:
        return f"anon:{self.anonymousId}" if self.userId in (None, "") else str(self.userId)

    @property
    def when(self) -> int:
        return milliseconds(self.timestamp or self.originalTimestamp or "")


Event = tuple[str, int, int, int, int, dict[str, Any]]  # user, code, value, ts, now, traits
_call = msgspec.json.Decoder(Call).decode


def read(path: Path, vocabulary: Vocabulary) -> tuple[Stream, dict[str, int]]:
    """A file of JSON lines or a lake's directory, in the log's order; and each user's number in it.

    In a lake users are `organisation/user`. An anonymous person who turned out to be a user stays apart here.
    Raises NotReadable that names the line.
    """
    events = _lake(path, vocabulary) if path.is_dir() else iter(sorted(_lines(path, vocabulary), key=lambda e: e[4]))
    columns = _Columns(vocabulary)
    for event in events:
        columns.add(event)
    return columns.stream(), columns.users


def milliseconds(text: str) -> int:
    """Milliseconds since 1970 of an ISO 8601 time, UTC where it names no zone. Raises ValueError."""
    found = datetime.fromisoformat(text)
    found = found if found.tzinfo else found.replace(tzinfo=UTC)
    return round(found.timestamp() * 1000)


def _lines(path: Path, vocabulary: Vocabulary) -> Iterator[Event]:
    """Each messageId once."""
    seen: set[str] = set()
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                call = _call(line)
                if call.messageId not in seen:
                    yield _event(call, vocabulary)
                if call.messageId:
                    seen.add(call.messageId)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
                raise NotReadable(
                    f"{path}, line {number}: expected a Segment call with a timestamp: {error}"
                ) from error


def _event(call: Call, vocabulary: Vocabulary) -> Event:
    if call.type != "track":
        return call.user, SILENT, 0, call.when, call.when, call.traits or {}
    event = vocabulary.named(call.event or "")
    if event is None:
        return call.user, UNKNOWN, 0, call.when, call.when, {}
    given = call.properties or {}
    tag = str(given.get(event.tag or "", "")).strip().lower()
    code = vocabulary.code.get((event.name, tag), vocabulary.code[event.name, None])
    value = given.get(event.value or "", 0)
    return call.user, code, round(float(value or 0) * event.scale), call.when, call.when, {}


_LAKE = """
    SELECT organisation || '/' || "user" AS name, event, tag, value, epoch_ms(ts) AS ts, epoch_ms(logged_at) AS now,
        CASE WHEN type = 'identify' THEN raw END AS told
    FROM events ORDER BY logged_at, CAST(split_part(entry_id, '-', 2) AS BIGINT), "index"
"""


def _lake(path: Path, vocabulary: Vocabulary) -> Iterator[Event]:
    partitions = max((file.partition for file in everything(path)), default=0) + 1
    offline = Store(partitions=partitions, clock="log", seed=0)  # the seed finds single people; all are read here
    for batch in LakeReader(path, vocabulary, offline).sql(_LAKE).to_batches(max_chunksize=50_000):
        for row in batch.to_pylist():
            traits = (_call(row["told"]).traits or {}) if row["told"] else {}
            yield row["name"], *_measured(vocabulary, row), row["ts"], row["now"], traits


def _measured(vocabulary: Vocabulary, row: dict[str, Any]) -> tuple[int, int]:
    event = vocabulary.event.get(row["event"] or "")
    if event is None:
        return UNKNOWN, 0
    code = vocabulary.code.get((event.name, row["tag"]), vocabulary.code[event.name, None])
    return code, round((row["value"] or 0.0) * event.scale)


class _Columns:
    """The events of a history, gathered one by one."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self.users: dict[str, int] = {}
        self._events: list[tuple[int, int, int, int, int]] = []
        self._told: list[tuple[int, int, int, int, int]] = []

    def add(self, event: Event) -> None:
        user, code, value, ts, now, traits = event
        person = self.users.setdefault(user, len(self.users))
        self._events.append((person, code, value, ts, now))
        for name in traits.keys() & self._vocabulary.trait_id.keys():
            trait = self._vocabulary.trait_id[name]
            if (bits := _bits(self._vocabulary.traits[trait], traits[name])) is not None:
                self._told.append((person, trait, bits, min(ts, now), now))

    def stream(self) -> Stream:
        events = np.array(self._events, np.int64).reshape(-1, 5).T
        told = np.array(self._told, np.int64).reshape(-1, 5).T
        now = events[4] if events.size else np.zeros(1, np.int64)
        person, code, value, ts, logged = events
        return Stream(len(self.users), int(now.min()), int(now.max()), person, code, value, ts, logged, *told)


def _bits(trait: Trait, value: Any) -> int | None:
    """A trait's value as the stream keeps it; None for one that the door would not have taken."""
    if trait.kind == "text":
        return xxhash.xxh3_64_intdigest(str(value).strip().lower().encode()) >> 1
    try:
        number = float(milliseconds(value)) if trait.kind == "date" else float(value)
    except (TypeError, ValueError):
        return None
    return int(np.float64(number).view(np.int64)) if np.isfinite(number) else None
