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
_NAN = struct.pack("<Bd", _DOUBLE[0], float("nan"))
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
    return _rest([PRESENT] * count, b",".join([NEVER] * count))


def _columns(part: Part, rows: Sequence[Row], now_us: int, *, together: bool) -> list[bytes]:
    """The results of a view's features. `together`: all of them may be one piece."""
    stamps = [_stamp(row[part.start]) for row in rows]
    oldest = now_us - part.ttl_us
    told = b",".join([stamp[1] for stamp in stamps])
    filled = _filled(part, rows, [stamp[0] < oldest for stamp in stamps])
    found = filled and _encoded(filled, len(part.names), told, together=together)
    return found or _one_by_one(part, rows, stamps, oldest)


class Filled(msgspec.Struct):
    """Doubles of all rows one after another, with a NaN where there is nothing to tell.

    `statuses`: of each row; `odd`: (row, its status) by column, where a cell differs from its row.
    """

    numbers: tuple[float, ...]
    statuses: list[bytes]
    odd: dict[int, list[tuple[int, bytes]]]


def _filled(part: Part, rows: Sequence[Row], expired: Sequence[bool]) -> Filled | None:
    """None where a value is no double."""
    width, size = len(part.names), len(part.names) * _WIDTH
    statuses, pieces, odd = [PRESENT] * len(rows), [], dict[int, list[tuple[int, bytes]]]()
    for i, row in enumerate(rows):
        stamp, values = row[part.start], row[part.start + 1 : part.stop]
        if stamp is None or expired[i]:
            if stamp is None and list(values).count(None) != width:
                return None  # no writer of ours leaves the time out
            statuses[i] = NOT_FOUND if stamp is None else EXPIRED
            pieces.append(_NAN * width)
            continue
        try:
            piece = b"".join(values)  # type: ignore[arg-type]  # a None: TypeError
        except TypeError:
            piece = b""
        pieces.append(piece if len(piece) == size else _patched(values, i, odd))
    joined = b"".join(pieces)
    if len(joined) != size * len(rows) or joined[::_WIDTH] != _DOUBLE * (width * len(rows)):
        return None
    return Filled(_unpacker(width * len(rows))(joined), statuses, odd)


def _patched(values: Row, i: int, odd: dict[int, list[tuple[int, bytes]]]) -> bytes:
    """A row with a NaN for each value that is missing or null, which `odd` is told."""
    for column, value_ in enumerate(values):
        if not value_:
            odd.setdefault(column, []).append((i, NOT_FOUND if value_ is None else PRESENT))
    return b"".join([value_ or _NAN for value_ in values])


@lru_cache(64)
def _unpacker(count: int) -> Any:
    return struct.Struct("<" + "xd" * count).unpack


def _encoded(filled: Filled, width: int, told: bytes, *, together: bool) -> list[bytes]:
    """The results; none where a NaN or infinity was stored: the encoder tells those as null too."""
    count, odd = len(filled.statuses), filled.odd
    blank = count - filled.statuses.count(PRESENT)
    rest = _rest(filled.statuses, told)
    if count == 1 and not odd and together:
        values = _encode(filled.numbers)[1:-1]
        if values.count(b"n") != blank * width:
            return []
        return [b"".join((b'{"values":[', values.replace(b",", b"]," + rest + b',{"values":['), b"],", rest))]
    columns = [_encode(filled.numbers[i::width]) for i in range(width)]
    if any(values.count(b"n") != blank + len(odd.get(i, ())) for i, values in enumerate(columns)):
        return []
    rests = {i: _rest(_differing(filled.statuses, cells), told) for i, cells in odd.items()}
    return [b"".join((b'{"values":', values, b",", rests.get(i, rest))) for i, values in enumerate(columns)]


def _differing(statuses: list[bytes], cells: list[tuple[int, bytes]]) -> list[bytes]:
    found = statuses.copy()
    for i, status in cells:
        found[i] = status
    return found


def _rest(statuses: Sequence[bytes], stamps: bytes) -> bytes:
    """What stands in a result behind its values."""
    return b"".join((b'"statuses":[', b",".join(statuses), b'],"event_timestamps":[', stamps, b"]}"))


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
