"""Rows for external views on their way into log and hashes, in one transaction."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Literal

import msgspec
import xxhash

from feature_repo.declare import Trait, Value, View
from feature_repo.traits import bits
from feature_repo.vocabulary import PUSHED, SILENT, Vocabulary
from flows import push
from flows.entry import Kind
from flows.external import ExternalView
from flows.push import Push
from serving.api import Api
from serving.append import Group, Unavailable
from serving.applied import Applied
from serving.errors import ApiError
from serving.frame import TIMESTAMP, Frame
from serving.intake import HOUR, TEN_YEARS
from serving.messages import EVENT_BYTES

PATIENCE = 1.0  # seconds to wait for the engine
AT_ONCE = 2_000  # rows in one transaction, so that the store stays quick for others


class Target:
    """An external view, and what of it is looked up once."""

    def __init__(self, vocabulary: Vocabulary, view: View) -> None:
        self.view, self.entity = view, vocabulary.entity_of(view)
        self.bytes = ExternalView(view, self.entity)
        self.names = [f.name for f in view.fields]
        self.is_person = view.entity == vocabulary.entity
        self.prefix = push.identity_of(vocabulary, view, "").encode()
        self._told = [
            (i, vocabulary.trait_id[f.trait], vocabulary.traits[vocabulary.trait_id[f.trait]])
            for i, f in enumerate(view.fields)
            if f.trait
        ]

    def told(self, values: tuple[Value | None, ...], row: int) -> list[tuple[int, int]]:
        """(trait id, bits) of the traits that a row tells. Raises ApiError 400."""
        return [(t, self._bits(i, trait, values[i], row)) for i, t, trait in self._told if values[i] is not None]

    def _bits(self, i: int, trait: Trait, value: Value | None, row: int) -> int:
        try:
            return bits(trait, value)
        except ValueError as error:
            raise ApiError(400, f"row {row}: {error}", f"df.{self.names[i]}") from None


class Rows(msgspec.Struct, frozen=True):
    """What one request writes. `to` offline: into the log alone, not into the view's hashes."""

    organisation: bytes
    target: Target
    frame: Frame
    to: Literal["online", "offline"]
    history: bool

    @property
    def online(self) -> bool:
        return self.to == "online"

    @property
    def touches(self) -> bool:
        """Whether the engine has something to do: they are a person's."""
        return self.online and self.target.is_person

    @property
    def kind(self) -> Kind:
        return Kind.EVENTS if self.touches else Kind.PUSH

    def is_empty(self) -> bool:
        """No rows, or no value in any of them: Feast answers well and writes nothing."""
        return all(value is None for column in self.frame.columns for value in column)


class Made(msgspec.Struct, frozen=True):
    """A row as the log keeps it: JSON, and (trait id, bits) that it tells."""

    raw: bytes
    told: list[tuple[int, int]]


class Pusher:
    """Stores rows. One for each process."""

    def __init__(self, parts: Api) -> None:
        self._store, self._appender = parts.store, parts.appender
        self._applied = Applied(parts.client, parts.store.partitions)

    async def push(self, rows: Rows) -> bool:
        """Stores all rows, and waits a little for the engine; whether it has worked them.

        Raises ApiError 400 before any is stored, and Unavailable.
        """
        if rows.is_empty():
            return True
        made = self._made(rows)
        waited: dict[int, bytes] = {}
        for start in range(0, len(made), AT_ONCE):
            waited |= await self._append(rows, made[start : start + AT_ONCE], start)
        return await self._applied.passed(waited if rows.touches else {}, PATIENCE)

    def _made(self, rows: Rows) -> list[Made]:
        self._check(rows.frame.at)
        target = rows.target
        stamps = {us: push.moment(us) for us in set(rows.frame.at)}
        return [
            Made(
                _raw(Push(target.view.name, id_, stamps[us], dict(zip(target.names, values, strict=True)), rows.to), i),
                target.told(values, i) if rows.touches else [],
            )
            for i, (id_, us, values) in enumerate(_each(rows.frame))
        ]

    def _check(self, at: list[int]) -> None:
        """The same limits as an event's own time has. Raises ApiError 400."""
        wall = self._store.clock == "wall"
        latest = time.time_ns() // 1000 + (HOUR if wall else TEN_YEARS) * 1000
        wrong = next((row for row, us in enumerate(at) if not 0 <= us <= latest), None)
        if wrong is not None:
            ahead = "an hour" if wall else "ten years"
            detail = f"row {wrong}: expected a time after 1970 and at most {ahead} ahead of now"
            raise ApiError(400, detail, f"df.{TIMESTAMP}")

    async def _append(self, rows: Rows, made: list[Made], start: int) -> dict[int, bytes]:
        """Stores some rows in one transaction; the entry that holds them by partition."""
        group = self._appender.room()
        partitions = self._draft(rows, made, start, group)
        at, part = len(group.writes), slice(start, start + len(made))
        if rows.online:
            names = [rows.organisation + b"/" + id_.encode() for id_ in rows.frame.ids[part]]
            columns = [column[part] for column in rows.frame.columns]
            group.writes.append(rows.target.bytes.write(names, rows.frame.at[part], columns))
        await self._appender.stored(group, sum(len(row.raw) for row in made))
        if rows.online and (wrong := group.replies[at][1]):
            raise Unavailable(f"the store refused some of the rows: {wrong.decode()}")
        return {p: group.ids[p, rows.history, rows.kind] for p in partitions}

    def _draft(self, rows: Rows, made: list[Made], start: int, group: Group) -> set[int]:
        """Puts rows into the group's entries; returns their partitions.

        A row's message is its content: pushed again it is a duplicate.
        """
        seed, partitions, ids, at = self._store.seed, self._store.partitions, rows.frame.ids, rows.frame.at
        prefix, message = rows.organisation + b"/" + rows.target.prefix, rows.organisation + b"\0"
        code, touched = PUSHED if rows.touches else SILENT, set()
        for i, row in enumerate(made, start):
            name = prefix + ids[i].encode()
            uid = xxhash.xxh3_64_intdigest(name, seed)
            mid = xxhash.xxh3_64_intdigest(message + row.raw, seed)
            draft = group.draft(uid % partitions, rows.history, rows.kind)
            index = draft.add(uid, name, mid or 1, at[i] // 1000, code, 0, row.raw)
            draft.traits.extend((index, trait, value) for trait, value in row.told)
            touched.add(uid % partitions)
        return touched


def _each(frame: Frame) -> Iterator[tuple[str, int, tuple[Value | None, ...]]]:
    return zip(frame.ids, frame.at, zip(*frame.columns, strict=True), strict=True)


def _raw(row: Push, i: int) -> bytes:
    raw = push.encode(row)
    if len(raw) > EVENT_BYTES:
        raise ApiError(400, f"row {i}: expected at most {EVENT_BYTES} bytes a row, got {len(raw)}", "df")
    return raw
