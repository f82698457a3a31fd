"""JSON lines of Segment calls as columns."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from feature_repo.declare import EventType
from feature_repo.moments import milliseconds
from feature_repo.vocabulary import SILENT, UNKNOWN, Vocabulary
from training.backfill import key
from training.past_lake import Columns
from training.people import Array
from training.told import Told


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


_call = msgspec.json.Decoder(Call).decode


def from_lines(path: Path, vocabulary: Vocabulary) -> Columns:
    """The calls of a file in time order, each messageId once. Raises NotReadable that names the line."""
    lines = _Lines(vocabulary)
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.isspace():
                continue
            try:
                lines.add(line)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
                raise NotReadable(
                    f"{path}, line {number}: expected a Segment call with a timestamp: {error}"
                ) from error
    return lines.columns()


class _Lines:
    """Calls, gathered one by one."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._seen: set[str] = set()
        self._events: dict[str, EventType | None] = {}
        self._people: dict[str, int] = {}
        self._rows: tuple[list[int], list[int], list[int], list[int]] = ([], [], [], [])  # person, code, value, when
        self._traits: dict[int, dict[str, Any]] = {}
        self._joins: list[tuple[int, int, int]] = []  # anonymous person, when, user

    def add(self, line: bytes) -> None:
        call = _call(line)
        when = milliseconds(datetime.fromisoformat(call.timestamp or call.originalTimestamp or ""))
        if call.messageId:
            if call.messageId in self._seen:
                return
            self._seen.add(call.messageId)
        user, anonymous = call.userId not in (None, ""), f"anon:{call.anonymousId}"
        person = self._number(str(call.userId) if user else anonymous)
        code, value = self._tracked(call) if call.type == "track" else (SILENT, 0)
        for column, found in zip(self._rows, (person, code, value, when), strict=True):
            column.append(found)
        if call.type == "identify":
            self._traits[len(self._rows[0]) - 1] = call.traits or {}
            if user and call.anonymousId:
                self._joins.append((self._number(anonymous), when, person))

    def columns(self) -> Columns:
        person, code, value, when = (np.array(column, np.int64) for column in self._rows)
        copies, users, since = _passed_on(self._joins, person, when)
        place = np.concatenate((np.arange(len(person)), copies))
        person, seen = np.concatenate((person, users)), np.concatenate((when, since))
        order = np.lexsort((place, when[place], seen))
        place, person, seen = place[order], person[order], seen[order]
        told = Told(self._vocabulary)
        for i in np.flatnonzero(np.isin(place, list(self._traits))).tolist():
            told.add(int(person[i]), self._traits[int(place[i])], int(when[place[i]]), int(seen[i]))
        names = pa.array(self._people, pa.string())
        return Columns(names, person, code[place], value[place], when[place], when[place], seen, told)

    def _number(self, user: str) -> int:
        return self._people.setdefault(user, len(self._people))

    def _tracked(self, call: Call) -> tuple[int, int]:
        name = call.event or ""
        if name not in self._events:
            self._events[name] = self._vocabulary.named(name)
        event = self._events[name]
        if event is None:
            return UNKNOWN, 0
        given = call.properties or {}
        tag = str(given.get(event.tag or "", "")).strip().lower()
        code = self._vocabulary.code.get((event.name, tag), self._vocabulary.code[event.name, None])
        return code, round(float(given.get(event.value or "", 0) or 0) * event.scale)


def _passed_on(joins: list[tuple[int, int, int]], person: Array, when: Array) -> tuple[Array, Array, Array]:
    """(index, user, since when it is theirs) of each event of an anonymous person who was identified.

    What came before goes to the first whom they turned out to be, what comes later to the last by then.
    """
    anonymous, at, user = np.array(sorted(joins), np.int64).reshape(-1, 3).T
    after = np.searchsorted(key(anonymous, at), key(person, when), side="right")
    whose = np.append(anonymous, -1)  # of nobody, before the first join and after the last
    nth = np.where(whose[after - 1] == person, after - 1, after)
    copies = np.flatnonzero(whose[nth] == person)
    nth = nth[copies]
    return copies, user[nth], np.maximum(when[copies], at[nth])
