"""Rows for external views on their way into log and hashes, in one transaction."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Literal

import msgspec
import xxhash

from feature_repo.declare import Trait, Value, View
from feature_repo.traits import bits_of
from feature_repo.vocabulary import PUSHED, SILENT, Vocabulary
from flows import push
from flows.entry import Kind
from flows.external import ExternalView
from serving.api import Api
from serving.append import Group, Part, Unavailable
from serving.applied import Applied
from serving.errors import ApiError
from serving.frame import TIMESTAMP, Frame
from serving.intake import HOUR, TEN_YEARS
from serving.messages import EVENT_BYTES

PATIENCE = 1.0  # seconds to wait for the engine
AT_ONCE = 500  # rows in one transaction: the store works one while the next is made, and stays quick for others
Told = tuple[int, list[int | None]]  # trait id, its bits by row


class Target:
    """An external view, and what of it is looked up once."""

    def __init__(self, vocabulary: Vocabulary, view: View) -> None:
        self.view, self.entity = view, vocabulary.entity_of(view)
        self.bytes = ExternalView(view, self.entity)
        self.names = [f.name for f in view.fields]
        self.is_person = view.entity == vocabulary.entity
        self.prefix = push.identity_of(vocabulary, view, "").encode()
        self._told = [(i, vocabulary.trait_id[f.trait]) for i, f in enumerate(view.fields) if f.trait]
        self._traits = vocabulary.traits

    def told(self, columns: list[list[Value | None]]) -> list[Told]:
        """The traits that the columns tell. Raises ApiError 400."""
        return [(number, self._bits(i, self._traits[number], columns[i])) for i, number in self._told]

    def _bits(self, i: int, trait: Trait, column: list[Value | None]) -> list[int | None]:
        try:
            return bits_of(trait, column)
        except ValueError as error:
            raise ApiError(400, str(error), f"df.{self.names[i]}") from None


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
    """n rows as the log keeps them: each one's JSON, and what is told of whom."""

    raw: list[bytes]
    told: list[Told]


class Submitted(msgspec.Struct, frozen=True):
    """A part that is on its way. `write`: which of the group's writes is that of the view's hashes."""

    group: Group
    stored: asyncio.Future[None]
    partitions: list[int]
    write: int | None

    def refused(self) -> list[bytes]:
        """Why the store did not take some of the rows; once it is stored."""
        replies = [] if self.write is None else [self.group.replies[self.write][1]]
        return [error for error in replies if error]


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
        self._check(rows.frame.at)
        made = Made(_raw(rows), rows.target.told(rows.frame.columns) if rows.touches else [])
        entries = await self._stored(rows, made)
        return await self._applied.passed(entries if rows.touches else {}, PATIENCE)

    def _check(self, at: list[int]) -> None:
        """The same limits as an event's own time has. Raises ApiError 400."""
        wall = self._store.clock == "wall"
        latest = time.time_ns() // 1000 + (HOUR if wall else TEN_YEARS) * 1000
        wrong = next((row for row, us in enumerate(at) if not 0 <= us <= latest), None)
        if wrong is not None:
            ahead = "an hour" if wall else "ten years"
            detail = f"row {wrong}: expected a time after 1970 and at most {ahead} ahead of now"
            raise ApiError(400, detail, f"df.{TIMESTAMP}")

    async def _stored(self, rows: Rows, made: Made) -> dict[int, bytes]:
        """Stores the rows, a part of them a transaction; the last entry that holds some of them, by partition."""
        parts = []
        for start in range(0, len(made.raw), AT_ONCE):
            parts.append(self._submit(rows, made, range(start, min(start + AT_ONCE, len(made.raw)))))
            await parts[-1].group.sent.wait()
        await asyncio.gather(*(part.stored for part in parts))
        if wrong := next((error for part in parts for error in part.refused()), None):
            raise Unavailable(f"the store refused some of the rows: {wrong.decode()}")
        return {p: part.group.ids[Part(p, rows.history, rows.kind)] for part in parts for p in part.partitions}

    def _submit(self, rows: Rows, made: Made, part: range) -> Submitted:
        """Hands a part of the rows to the appender, to be stored in one transaction."""
        group = self._appender.room()
        partitions = list(self._draft(rows, made, part, group))
        at, these = len(group.writes), slice(part.start, part.stop)
        if rows.online:
            names = [b"%b/%b" % (rows.organisation, id_.encode()) for id_ in rows.frame.ids[these]]
            columns = [column[these] for column in rows.frame.columns]
            group.writes.append(rows.target.bytes.write(names, rows.frame.at[these], columns))
        size = sum(map(len, made.raw[these]))
        return Submitted(group, self._appender.submit(group, size), partitions, at if rows.online else None)

    def _draft(self, rows: Rows, made: Made, part: range, group: Group) -> Iterable[int]:
        """Puts rows into the group's entries; returns their partitions.

        A row's message is its content: pushed again it is a duplicate.
        """
        seed, hashed, these = self._store.seed, xxhash.xxh3_64_intdigest, slice(part.start, part.stop)
        prefix, message = rows.organisation + b"/" + rows.target.prefix, rows.organisation + b"\0"
        raw = made.raw[these]
        names = [prefix + id_.encode() for id_ in rows.frame.ids[these]]
        uids = [hashed(name, seed) for name in names]
        messages = [hashed(message + each, seed) or 1 for each in raw]
        ms = [us // 1000 for us in rows.frame.at[these]]
        where: dict[int, list[int]] = {}
        for i, uid in enumerate(uids):
            where.setdefault(uid % self._store.partitions, []).append(i)
        for partition, mine in where.items():
            draft = group.draft(partition, rows.history, rows.kind)
            first = draft.extend(
                [uids[i] for i in mine],
                [names[i] for i in mine],
                [messages[i] for i in mine],
                [ms[i] for i in mine],
                PUSHED if rows.touches else SILENT,
                [raw[i] for i in mine],
            )
            for trait, column in made.told:
                told = enumerate((column[part.start + i] for i in mine), first)
                draft.traits += [(j, trait, bits) for j, bits in told if bits is not None]
        return where


def _raw(rows: Rows) -> list[bytes]:
    """The JSON to keep of each row. Raises ApiError 400."""
    found = rows.frame
    moments = {us: push.moment(us) for us in set(found.at)}
    features = dict(zip(rows.target.names, found.columns, strict=True))
    raw = push.encoded(rows.target.view.name, rows.to, found.ids, [moments[us] for us in found.at], features)
    if max(map(len, raw)) > EVENT_BYTES:
        row = next(i for i, text in enumerate(raw) if len(text) > EVENT_BYTES)
        raise ApiError(400, f"row {row}: expected at most {EVENT_BYTES} bytes a row, got {len(raw[row])}", "df")
    return raw
