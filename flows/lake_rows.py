"""From the log's entries to the lake's columns. Knows nothing of Redis or files."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from feature_repo.declare import Array
from feature_repo.vocabulary import Code, Vocabulary
from flows.entry import Entry, EntryError, Kind, decode, unpack_raw

TIME = pa.timestamp("ms", tz="UTC")
WORDS = pa.dictionary(pa.int32(), pa.string())
SCHEMA = pa.schema(
    [
        ("entry_id", pa.string()),  # of the log
        ("index", pa.int32()),  # within the entry
        ("partition", pa.int32()),
        ("organisation", WORDS),
        ("user", pa.string()),
        ("uid", pa.uint64()),  # identity of organisation and user
        ("mid", pa.uint64()),  # identity of organisation and messageId; 0 = a row of ours, nobody's event
        ("message_id", pa.string()),
        ("type", WORDS),  # track, identify, page..., push; join, absorb: see `joined`
        ("event", WORDS),  # its name in the vocabulary; null = none
        ("tag", WORDS),  # where counted apart
        ("name", WORDS),  # as sent; of a push, the view
        ("value", pa.float64()),  # in the event type's unit; null where it measures nothing
        ("ts", TIME),  # of the event
        ("logged_at", TIME),  # when it was appended to the log
        ("history", pa.bool_()),  # seeded without alerts
        ("joined", pa.string()),  # join: who an anonymous person is; absorb: whose history this person took over
        ("raw", pa.string()),  # the JSON as sent
        ("state", pa.binary()),  # absorb: what passed over, as `Passed`
    ]
)
_TIMES = ("ts", "logged_at")


class Told(msgspec.Struct):
    """What a call's JSON says of itself."""

    type: str | None = None
    messageId: str | None = None  # noqa: N815  # Segment's name
    event: str | None = None
    name: str | None = None
    view: str | None = None


class Passed(msgspec.Struct, array_like=True, frozen=True):
    """What an absorption adds to a person: a state's hot and cold value, and up to which entry of the anonymous
    person's partition it holds (None in entries of old).
    """

    hot: bytes
    cold: bytes
    position: bytes | None


class Codebook(msgspec.Struct):
    """What a vocabulary's numbers mean, as the store keeps it."""

    codes: list[Code] = []


_told = msgspec.json.Decoder(Told).decode
_NOTHING = Told()


def book(found: bytes | None) -> Codebook:
    """The codebook of a fingerprint; empty where the store has none, and then events stay unnamed."""
    return msgspec.json.decode(found, type=Codebook) if found else Codebook()


def read(field: bytes) -> Entry | None:
    """The entry, if the lake keeps it. Raises EntryError."""
    try:
        entry = decode(field)
    except ValueError as error:
        raise EntryError(str(error)) from error
    return entry if kept(entry) else None


def passed(entry: Entry, fields: dict[bytes, bytes]) -> bytes | None:
    """The column `state` of an entry's rows."""
    if entry.kind != Kind.ABSORB:
        return None
    return msgspec.msgpack.encode(Passed(fields[b"h"], fields[b"c"], fields.get(b"p")))


def kept(entry: Entry) -> bool:
    """Events, and whose history joined whose; not ticks, nor loads, which say nothing that the lake does not."""
    return entry.kind not in {Kind.TICK, Kind.LOAD} and len(entry) > 0


class Rows:
    """Collects entries of one partition, in the log's order, into one Arrow table."""

    def __init__(self, partition: int, vocabulary: Vocabulary) -> None:
        self.partition = partition
        self._scales = {e.name: e.scale for e in vocabulary.events if e.value}
        self._columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}

    def add(
        self, entry_id: bytes, entry: Entry, fields: dict[bytes, bytes], codes: Codebook, only: Array | None = None
    ) -> None:
        """An entry's events, with its other fields; `only` these indices, if given."""
        raw = fields.get(b"r", b"")
        picked = np.arange(len(entry)) if only is None else only
        at, columns = picked.tolist(), self._columns
        texts = unpack_raw(raw) if raw else [b""] * len(entry)
        told = [_said(texts[i]) for i in at]
        link = "absorb" if entry.kind == Kind.ABSORB else "join"
        joins = {int(i): entry.join(k).decode() for k, i in enumerate(entry.join_at)}
        names = [entry.name(i).decode().partition("/") for i in at]
        known = [_code(codes, code) for code in entry.code[picked].tolist()]
        columns["entry_id"] += [entry_id.decode()] * len(at)
        columns["index"] += at
        columns["organisation"] += [organisation for organisation, _, _ in names]
        columns["user"] += [user for _, _, user in names]
        columns["uid"].append(entry.uid[picked])
        columns["mid"].append(entry.mid[picked])
        columns["message_id"] += [t.messageId for t in told]
        columns["type"] += [link if i in joins else t.type for i, t in zip(at, told, strict=True)]
        columns["event"] += [code.event if code else None for code in known]
        columns["tag"] += [code.tag if code else None for code in known]
        columns["name"] += [t.event or t.name or t.view for t in told]
        columns["value"] += self._values(known, entry.value[picked])
        columns["ts"].append(entry.ts[picked])
        columns["logged_at"].append(np.full(len(at), int(entry_id.partition(b"-")[0]), np.int64))
        columns["history"] += [entry.history] * len(at)
        columns["joined"] += [joins.get(i) for i in at]
        columns["raw"] += [texts[i] for i in at]
        columns["state"] += [passed(entry, fields)] * len(at)

    def __len__(self) -> int:
        return len(self._columns["entry_id"])

    def table(self) -> pa.Table:
        columns = self._columns
        arrays = {name: np.concatenate(columns[name] or [np.zeros(0, np.int64)]) for name in ("uid", "mid", *_TIMES)}
        made = {name: pa.array(arrays[name]).cast(SCHEMA.field(name).type) for name in arrays}
        made["partition"] = pa.array(np.full(len(self), self.partition, np.int32))
        made["raw"] = _texts(columns["raw"])
        rest = (name for name in SCHEMA.names if name not in made)
        made |= {name: pa.array(columns[name], SCHEMA.field(name).type) for name in rest}
        return pa.table([made[name] for name in SCHEMA.names], schema=SCHEMA)

    def _values(self, known: list[Code | None], fixed: Array) -> list[float | None]:
        scales = [self._scales.get(code.event) if code else None for code in known]
        return [v / scale if scale else None for v, scale in zip(fixed.tolist(), scales, strict=True)]


def concat(tables: Iterable[pa.Table], schema: pa.Schema = SCHEMA) -> pa.Table:
    """In these columns' order; null where a table, written before there was such a column, has none."""
    return pa.concat_tables([schema.empty_table(), *tables], promote_options="default").unify_dictionaries()


def _code(codes: Codebook, code: int) -> Code | None:
    return codes.codes[code] if code < len(codes.codes) else None


def _said(raw: bytes) -> Told:
    try:
        return _told(raw) if raw else _NOTHING
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _NOTHING


def _texts(raw: list[bytes]) -> pa.Array:
    try:
        return pa.array(raw, pa.string())
    except pa.ArrowInvalid:  # not UTF-8 somewhere: JSON that the door would not take today
        return pa.array([text.decode(errors="replace") for text in raw], pa.string())
