"""What one entry of the log holds: a partition's micro-batch as columns, with the raw JSON beside it.

The door decodes an event once and appends columns; the engine reads them back without looking at JSON.
Little endian throughout. Columns of n events: `uid`, `mid` (uint64 identities of person and message),
`ts` (int64 ms), `value` (int64 fixed point), `code` (uint16, see `Vocabulary.codes`), then the names.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from enum import IntEnum
from itertools import accumulate
from typing import Any

import msgspec
import numpy as np
import zstandard

from feature_repo.vocabulary import SILENT

ANONYMOUS = "anon:"  # before the id of a user who is not identified
VERSION = 1
HISTORY = 1  # flag: count these, but let nothing fire
_HEADER = struct.Struct("<BBHIIIIII4x")  # version, kind, flags, fingerprint, events, traits, joins, name and join bytes
_ZSTD = b"\x28\xb5\x2f\xfd"
_compressor = zstandard.ZstdCompressor(level=1, write_checksum=False)
Array = np.ndarray[Any, Any]


class Kind(IntEnum):
    EVENTS = 0
    TICK = 1  # time passed: `ts` holds the first and the last minute (since 1970) whose slice is due
    ABSORB = 2  # an anonymous person's state on its way to the user who turned out to be them
    PUSH = 3  # features from outside that touch no person's: for the lake alone
    LOAD = 4  # what people lack of today's columns, from the lake; `value`: the origin of whom it was made for


class EntryError(ValueError):
    """An entry that cannot be read: another version, or not ours."""


class Entry(msgspec.Struct):
    """One decoded entry. Arrays of n: uid, mid, ts, value, code; traits and joins point into them by index."""

    kind: Kind
    history: bool
    fingerprint: int
    uid: Array
    mid: Array
    ts: Array
    value: Array
    code: Array
    trait_at: Array
    trait: Array
    trait_bits: Array
    join_at: Array
    name_ends: Array
    name_bytes: bytes
    join_ends: Array
    join_bytes: bytes

    def name(self, i: int) -> bytes:
        """`organisation/user` of event i."""
        return self.name_bytes[int(self.name_ends[i - 1]) if i else 0 : int(self.name_ends[i])]

    def join(self, k: int) -> bytes:
        """`organisation/user` that the anonymous person of event `join_at[k]` turned out to be."""
        return self.join_bytes[int(self.join_ends[k - 1]) if k else 0 : int(self.join_ends[k])]

    def __len__(self) -> int:
        return len(self.uid)


class Draft:
    """Events on their way into one entry of one partition."""

    __slots__ = ("code", "joins", "mid", "names", "raw", "traits", "ts", "uid", "value")

    def __init__(self) -> None:
        self.uid: list[int] = []
        self.mid: list[int] = []
        self.ts: list[int] = []
        self.value: list[int] = []
        self.code: list[int] = []
        self.names: list[bytes] = []
        self.raw: list[bytes] = []
        self.traits: list[tuple[int, int, int]] = []  # event, trait id, value bits
        self.joins: list[tuple[int, bytes]] = []  # event, organisation/user

    def add(
        self, uid: int, name: bytes, mid: int, ts: int, code: int = SILENT, value: int = 0, raw: bytes = b""
    ) -> int:
        """One event; returns its index, for `traits` and `joins`."""
        self.uid.append(uid)
        self.names.append(name)
        self.mid.append(mid)
        self.ts.append(ts)
        self.code.append(code)
        self.value.append(value)
        self.raw.append(raw)
        return len(self.uid) - 1

    def extend(
        self, uid: list[int], names: list[bytes], mid: list[int], ts: list[int], code: int, raw: list[bytes]
    ) -> int:
        """Many events of one code that measure nothing; returns the index of the first."""
        first = len(self.uid)
        self.uid += uid
        self.names += names
        self.mid += mid
        self.ts += ts
        self.code += [code] * len(uid)
        self.value += [0] * len(uid)
        self.raw += raw
        return first

    def __len__(self) -> int:
        return len(self.uid)

    def encode(self, fingerprint: int, *, history: bool = False, kind: Kind = Kind.EVENTS) -> bytes:
        """The entry's field `e`."""
        names, joins = b"".join(self.names), b"".join(name for _, name in self.joins)
        sizes = (len(self.uid), len(self.traits), len(self.joins), len(names), len(joins))
        traits = np.array(self.traits, np.int64).reshape(-1, 3)
        return b"".join(
            (
                _HEADER.pack(VERSION, kind, HISTORY if history else 0, fingerprint, *sizes),
                array("Q", self.uid),
                array("Q", self.mid),
                array("q", self.ts),
                array("q", self.value),
                traits[:, 2].tobytes(),
                _ends(self.names),
                traits[:, 0].astype(np.uint32).tobytes(),
                array("I", [i for i, _ in self.joins]),
                _ends([name for _, name in self.joins]),
                array("H", self.code),
                traits[:, 1].astype(np.uint16).tobytes(),
                names,
                joins,
            )
        )

    def encode_raw(self) -> bytes:
        """The entry's field `r`: the raw JSON of each event, a MessagePack list of binaries, zstd when it pays."""
        return pack_raw(self.raw)


def pack_raw(raw: Sequence[bytes]) -> bytes:
    packed = msgspec.msgpack.encode(raw)
    return _compressor.compress(packed) if len(packed) > 512 else packed


def unpack_raw(field: bytes) -> list[bytes]:
    """The raw JSON of each event of an entry, in its order."""
    if field[:4] == _ZSTD:
        field = zstandard.ZstdDecompressor().decompress(field)
    return msgspec.msgpack.decode(field, type=list[bytes])


def events_in(raw: bytes) -> int:
    """How many events an entry's field `r` tells of: rows of joins have no JSON. 0 where it cannot be read."""
    try:
        return sum(map(bool, unpack_raw(raw)))
    except (zstandard.ZstdError, msgspec.MsgspecError):
        return 0


def _ends(names: Sequence[bytes]) -> array[int]:
    return array("I", accumulate(map(len, names)))


def tick(first_minute: int, last_minute: int, *, history: bool = False) -> bytes:
    """A tick's field `e`: the slices of these minutes since 1970, both included, are due."""
    draft = Draft()
    for minute in (first_minute, last_minute):
        draft.add(0, b"", 0, minute)
    return draft.encode(0, history=history, kind=Kind.TICK)


def decode(field: bytes) -> Entry:
    """An entry from its field `e`. Raises EntryError."""
    if len(field) < _HEADER.size or field[0] != VERSION:
        raise EntryError(f"expected an entry of version {VERSION}, got {field[:8]!r}")
    _, kind, flags, fingerprint, n, m, k, names, joins = _HEADER.unpack_from(field)
    if len(field) != _HEADER.size + 38 * n + 14 * m + 8 * k + names + joins:
        raise EntryError(f"expected {n} events, {m} traits and {k} joins, got {len(field)} bytes")
    at = _HEADER.size

    def column(dtype: type, count: int) -> Array:
        nonlocal at
        values: Array = np.frombuffer(field, dtype, count, at)
        at += values.nbytes
        return values

    uid, mid = column(np.uint64, n), column(np.uint64, n)
    ts, value, bits = column(np.int64, n), column(np.int64, n), column(np.int64, m)
    name_ends, trait_at = column(np.uint32, n), column(np.uint32, m)
    join_at, join_ends = column(np.uint32, k), column(np.uint32, k)
    code, trait = column(np.uint16, n), column(np.uint16, m)
    return Entry(
        kind=Kind(kind),
        history=bool(flags & HISTORY),
        fingerprint=fingerprint,
        uid=uid,
        mid=mid,
        ts=ts,
        value=value,
        code=code,
        trait_at=trait_at,
        trait=trait,
        trait_bits=bits,
        join_at=join_at,
        name_ends=name_ends,
        name_bytes=field[at : at + names],
        join_ends=join_ends,
        join_bytes=field[at + names :],
    )
