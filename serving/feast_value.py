"""One value in Feast's bytes (protobuf `feast.types.Value`), as JSON.

Source: feast/protos/feast/types/Value.proto; JSON as feast/feature_server_utils.py makes it.
"""

from __future__ import annotations

import math
import struct

import msgspec

STRING, INT32, INT64, DOUBLE, FLOAT, BOOL = 0x12, 0x18, 0x20, 0x29, 0x35, 0x38  # tags
NULL = b"null"
_DOUBLE, _FLOAT = struct.Struct("<d"), struct.Struct("<f")
_INFINITE = {True: b'"Infinity"', False: b'"-Infinity"'}
_TAGS = (0x08, 0x10)  # of a Timestamp: seconds, nanoseconds
_SECONDS = 6  # bytes of a tag and the seconds of any moment from 1978 to 3058
_MORE, _FIVE = (
    0x8080808080,
    0x0080808080,
)  # the bits of five bytes that say whether a varint goes on; and of one of five
_MOST = 253_402_300_799_999_999  # microseconds: the year 9999
_LONGEST = 63  # bits before the last byte of a varint


def value(raw: bytes) -> bytes:
    """A scalar as JSON; null for Feast's empty value, and for what is none of the kinds that a view can have."""
    try:
        return _value(raw)
    except (IndexError, struct.error, UnicodeDecodeError):  # cut short, or no text
        return NULL


def _value(raw: bytes) -> bytes:
    tag = raw[0] if raw else None
    if tag == DOUBLE:
        return _number(_DOUBLE.unpack_from(raw, 1)[0])
    if tag == STRING:
        length, at = _varint(raw, 1)
        return msgspec.json.encode(raw[at : at + length].decode())
    if tag in (INT64, INT32):
        found = _varint(raw, 1)[0]
        return b"%d" % (found - (1 << 64) if found >> 63 else found)
    if tag == FLOAT:
        return _number(_FLOAT.unpack_from(raw, 1)[0])
    if tag == BOOL:
        return b"true" if _varint(raw, 1)[0] else b"false"
    return NULL


def _number(number: float) -> bytes:
    """What JSON has no number for is a text, as in protobuf's JSON."""
    if math.isfinite(number):
        return msgspec.json.encode(number)
    return b'"NaN"' if math.isnan(number) else _INFINITE[number > 0]


def micros(raw: bytes) -> int:
    """Microseconds since 1970 of a protobuf Timestamp, rounded from nanoseconds as Feast does; 0 for what is none."""
    n = int.from_bytes(raw[1:_SECONDS], "little")
    if n & _MORE == _FIVE and len(raw) > _SECONDS and raw[0] == _TAGS[0] and raw[_SECONDS] == _TAGS[1]:
        seconds, nanos = _packed(n), _packed(int.from_bytes(raw[_SECONDS + 1 :], "little"))
    else:
        seconds, nanos = _fields(raw)
    if seconds > _MOST or nanos > _MOST:
        return 0
    whole, rest = divmod(nanos, 1000)
    found = seconds * 1_000_000 + (whole if not rest else round(nanos / 1000))
    return found if found <= _MOST else 0


def _packed(n: int) -> int:
    """What the bytes of a varint, at most five, say."""
    return n & 0x7F | n >> 1 & 0x3F80 | n >> 2 & 0x1FC000 | n >> 3 & 0xFE00000 | n >> 4 & 0x7F0000000


def _fields(raw: bytes) -> tuple[int, int]:
    found, at = dict.fromkeys(_TAGS, 0), 0
    try:
        while at < len(raw):
            tag = raw[at]
            found[tag], at = _varint(raw, at + 1)
    except IndexError:
        return 0, 0
    return found[_TAGS[0]], found[_TAGS[1]]


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    """(number, where the next field begins). Raises IndexError when cut short, or beyond 64 bits."""
    number = shift = 0
    while True:
        byte = raw[at]
        number |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return number, at
        shift += 7
        if shift > _LONGEST:
            raise IndexError
