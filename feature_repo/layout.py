"""Feast's bytes in Redis (Feast 0.67, entity key serialisation version 3).

One hash an entity holds all its views. Key: see `entity_key`. Field of a feature: `field`; its value: a
`feast.types.Value` protobuf. Field `_ts:<view>`: a protobuf Timestamp.
Source: feast/infra/key_encoding_utils.py, feast/infra/online_stores/redis.py and helpers.py.
"""

from __future__ import annotations

import struct

import mmh3

from feature_repo.declare import Value

PROJECT = "telltale"
_STRING = 2  # feast ValueType of a string join key
DOUBLE = b"\x29"  # tag of Value.double_val; 8 bytes, little endian, follow
INTEGER = b"\x20"  # tag of Value.int64_val; a varint follows
TEXT = b"\x12"  # tag of Value.string_val; length and UTF-8 follow
NULL = b""
_BITS = (1 << 64) - 1
_DOUBLE = struct.Struct("<Bd").pack


def entity_key(join_key: str, value: bytes, project: str = PROJECT) -> bytes:
    """Redis key of the entity whose single string join key has this value (UTF-8)."""
    before, after = key_parts(join_key, project)
    return b"".join((before, len(value).to_bytes(4, "little"), value, after))


def key_parts(join_key: str, project: str = PROJECT) -> tuple[bytes, bytes]:
    """What stands in an entity's key before its value and the four bytes of its length, and what after."""
    name = join_key.encode()
    before = struct.pack("<III", 1, _STRING, len(name)) + name + struct.pack("<I", _STRING)
    return before, project.encode()


def field(view: str, feature: str) -> bytes:
    """Redis hash field of a feature: the little-endian murmur3 of `view:feature`."""
    return struct.pack("<I", mmh3.hash(f"{view}:{feature}", signed=False))


def timestamp_field(view: str) -> bytes:
    return f"_ts:{view}".encode()


def timestamp(ms: int) -> bytes:
    """A protobuf Timestamp of milliseconds since 1970."""
    return timestamp_us(ms * 1000)


def timestamp_us(us: int) -> bytes:
    """A protobuf Timestamp of microseconds since 1970."""
    seconds, rest = divmod(us, 1_000_000)
    before = b"\x08" + varint(seconds & _BITS) if seconds else b""  # protobuf leaves zeros out
    return before + (b"\x10" + varint(rest * 1000) if rest else b"")


def varint(n: int) -> bytes:
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def double(value: float) -> bytes:
    """A Value that holds a double."""
    return _DOUBLE(DOUBLE[0], value)


def integer(value: int) -> bytes:
    """A Value that holds a signed integer of 64 bits."""
    return INTEGER + varint(value & _BITS)


def text(value: str) -> bytes:
    """A Value that holds a text."""
    data = value.encode()
    return TEXT + varint(len(data)) + data


def read_double(value: bytes | None) -> float | None:
    """The double in a Value; None where there is none."""
    if not value or value[:1] != DOUBLE:
        return None
    return float(struct.unpack("<d", value[1:9])[0])


def read_value(value: bytes | None) -> Value | None:
    """The double, integer or text in a Value; None where there is none or another kind."""
    if not value:
        return None
    if value[:1] == INTEGER:
        number, _ = _read_varint(value, 1)
        return number - (number >> 63 << 64)
    if value[:1] == TEXT:
        length, at = _read_varint(value, 1)
        return value[at : at + length].decode()
    return read_double(value)


def read_timestamp(value: bytes) -> int:
    """Milliseconds since 1970 of a protobuf Timestamp, rounded down."""
    return read_timestamp_us(value) // 1000


def read_timestamp_us(value: bytes) -> int:
    """Microseconds since 1970 of a protobuf Timestamp, rounded down."""
    fields, at = {8: 0, 16: 0}, 0
    while at < len(value):
        tag, at = value[at], at + 1
        fields[tag], at = _read_varint(value, at)
    seconds = fields[8] - (fields[8] >> 63 << 64)
    return seconds * 1_000_000 + fields[16] // 1000


def _read_varint(value: bytes, at: int) -> tuple[int, int]:
    n = shift = 0
    while True:
        byte, at = value[at], at + 1
        n |= (byte & 0x7F) << shift
        if byte < 0x80:
            return n, at
        shift += 7
