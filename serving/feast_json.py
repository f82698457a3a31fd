"""The JSON of Feast's feature server, made from what the store replied.

Where all that is asked of a view are doubles that hold, which is nearly always, the values are unpacked in one call
and encoded in one.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

from serving.feast_shape import Part, Row, Shape
from serving.feast_value import micros, value

PRESENT, NOT_FOUND, EXPIRED = b'"PRESENT"', b'"NOT_FOUND"', b'"OUTSIDE_MAX_AGE"'
NULL = b"null"
NEVER = b'"1970-01-01T00:00:00Z"'  # Feast's timestamp of what has none
_DOUBLE = b")"  # tag of a double in a Value: 0x29
_WIDTH = 9  # bytes of a Value that holds a double
_encode = msgspec.json.Encoder().encode

Stamp = tuple[int, bytes]  # microseconds since 1970, and as JSON


def answer(shape: Shape, echoed: Sequence[Sequence[Any]], rows: Sequence[Sequence[Row]], now_us: int) -> bytes:
    """The whole body. `echoed`: the values of the entities as told; `rows`: of each group, a row an entity."""
    results = [b'{"values":%b,%b' % (_encode(values), _rest_of_entities(len(values))) for values in echoed]
    columns = [
        column
        for group, of_group in zip(shape.groups, rows, strict=True)
        for part in group.parts
        for column in _columns(part, of_group, now_us, together=shape.order is None)
    ]
    if shape.order is not None:
        columns = [columns[i] for i in shape.order]
    results[0] = b'{"metadata":%b,"results":[%b' % (shape.metadata, results[0])
    columns[-1] += b"]}"
    return b",".join(results + columns)


@lru_cache(128)
def _rest_of_entities(count: int) -> bytes:
    return _all_present([NEVER] * count)


def _all_present(stamps: Sequence[bytes]) -> bytes:
    """What stands in a result behind its values."""
    return b"".join(
        (b'"statuses":[', b",".join([PRESENT] * len(stamps)), b'],"event_timestamps":[', b",".join(stamps), b"]}")
    )


def _columns(part: Part, rows: Sequence[Row], now_us: int, *, together: bool) -> list[bytes]:
    """The results of a view's features. `together`: all of them may be one piece."""
    stamps = [_stamp(row[part.start]) for row in rows]
    oldest = now_us - part.ttl_us
    if min(stamps)[0] >= oldest:
        numbers = _doubles([row[part.start + 1 : part.stop] for row in rows], len(part.names))
        if numbers is not None and (found := _present(numbers, len(part.names), stamps, together=together)):
            return found
    return _one_by_one(part, rows, stamps, oldest)


def _doubles(rows: Sequence[Row], width: int) -> tuple[float, ...] | None:
    """All values, if each is a double."""
    try:
        joined = b"".join([b"".join(row) for row in rows])  # type: ignore[arg-type]
    except TypeError:  # a None
        return None
    count = len(rows) * width
    if len(joined) != _WIDTH * count or joined[::_WIDTH] != _DOUBLE * count:
        return None
    return _unpacker(count)(joined)


@lru_cache(64)
def _unpacker(count: int) -> Any:
    return struct.Struct("<" + "xd" * count).unpack


def _present(numbers: tuple[float, ...], width: int, stamps: Sequence[Stamp], *, together: bool) -> list[bytes]:
    """The results of doubles that all hold; none where one is not finite, which the encoder tells as null."""
    rest = _all_present([stamp[1] for stamp in stamps])
    told = [_encode(numbers)] if len(stamps) == 1 else [_encode(numbers[i::width]) for i in range(width)]
    if any(b"n" in values for values in told):
        return []
    if len(stamps) > 1:
        return [b"".join((b'{"values":', values, b",", rest)) for values in told]
    if together:
        values = told[0][1:-1].replace(b",", b"]," + rest + b',{"values":[')
        return [b"".join((b'{"values":[', values, b"],", rest))]
    return [b'{"values":[%b],%b' % (value_, rest) for value_ in told[0][1:-1].split(b",")]


def _one_by_one(part: Part, rows: Sequence[Row], stamps: Sequence[Stamp], oldest: int) -> list[bytes]:
    told = b",".join([stamp[1] for stamp in stamps])
    cells = [_cells(row[part.start : part.stop], stamp[0] < oldest) for row, stamp in zip(rows, stamps, strict=True)]
    return [
        b'{"values":[%b],"statuses":[%b],"event_timestamps":[%b]}'
        % (b",".join([cell[0] for cell in column]), b",".join([cell[1] for cell in column]), told)
        for column in zip(*cells, strict=True)
    ]


def _cells(row: Row, expired: bool) -> list[tuple[bytes, bytes]]:
    """(value, status) of each feature of one entity in one view; `row` begins with its timestamp."""
    stamp, *values = row
    if expired and stamp is not None:
        return [(NULL, EXPIRED)] * len(values)
    return [(NULL, NOT_FOUND) if raw is None else (value(raw), PRESENT) for raw in values]


@lru_cache(4096)
def _stamp(raw: bytes | None) -> Stamp:
    if raw is None:
        return 0, NEVER
    us = micros(raw)
    seconds, rest = divmod(us, 1_000_000)
    thousandths, over = divmod(rest, 1000)
    fraction = b".%06dZ" % rest if over else _THOUSANDTHS[thousandths]  # as many digits as protobuf's JSON gives
    return us, b'"%b%b"' % (_second(seconds), fraction)


_THOUSANDTHS = (b"Z", *(b".%03dZ" % i for i in range(1, 1000)))


@lru_cache(4096)
def _second(seconds: int) -> bytes:
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:19].encode()
