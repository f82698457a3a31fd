"""The write of an external view: rows into Feast's hashes, each only if it is newer than what stands there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from feature_repo.declare import Entity, Value, View
from feature_repo.layout import NULL, double, field, integer, key_parts, text, timestamp_field, timestamp_us
from flows.resp import pack

# KEYS: a hash a row. ARGV: the timestamp's field, how many fields, their names; then a row's timestamp and values.
# As Feast does, a row that is not newer than what stands there, be it of this batch, changes nothing.
# Never fails half-way: returns [rows tried, the first error or nil].
NEWER = """
local known = {}  -- a batch is often of one moment
local function read(stamp)
  if known[stamp] then return known[stamp] end
  local found, at = {[8] = 0, [16] = 0}, 1
  while at <= #stamp do
    local tag, n, unit = stamp:byte(at), 0, 1
    repeat
      at = at + 1
      local byte = stamp:byte(at) or 0
      n, unit = n + byte % 128 * unit, unit * 128
    until byte < 128
    found[tag], at = n, at + 1
  end
  if found[8] >= 2 ^ 63 then found = {[8] = 0, [16] = 0} end
  known[stamp] = found
  return found
end
local last_came, last_stood, last_answer
local function newer(stamp, stood)
  if stamp == last_came and stood == last_stood then return last_answer end
  last_came, last_stood = stamp, stood
  local came, before = read(stamp), read(stood)
  local is_later = came[8] > before[8] or came[8] == before[8] and came[16] > before[16]
  last_answer = is_later or before[8] + before[16] == 0
  return last_answer
end
local call, argv, stamp_field, width = redis.pcall, ARGV, ARGV[1], tonumber(ARGV[2])
local row, at, tried, wrong = {'HSET', '', stamp_field}, 3 + width, 0, false
local whole = 4 + 2 * width
for i = 1, width do row[3 + 2 * i] = argv[2 + i] end
for _, key in ipairs(KEYS) do
  local done = call('HGET', key, stamp_field)
  if not done or type(done) == 'string' and newer(argv[at], done) then
    row[2], row[4] = key, argv[at]
    for i = 1, width do row[4 + 2 * i] = argv[at + i] end
    done = call(unpack(row, 1, whole))
    tried = tried + 1
  end
  if type(done) == 'table' then wrong = wrong or done.err end
  at = at + 1 + width
end
return {tried, wrong}
"""
_BYTES: dict[str, Callable[..., bytes]] = {"number": double, "integer": integer, "text": text}


class ExternalView:
    """Feast's bytes of one view that outside data fills."""

    def __init__(self, view: View, entity: Entity) -> None:
        self._key, self._stamp = key_parts(entity.join_key), timestamp_field(view.name)
        self._fields = [field(view.name, f.name) for f in view.fields]
        self._encode = [_BYTES[f.kind] for f in view.fields]

    def write(self, names: Sequence[bytes], at: Sequence[int], columns: Sequence[Sequence[Value | None]]) -> bytes:
        """A packed command for n rows, which answers [rows tried, error or None].

        names: `organisation/id` (n,); at: microseconds since 1970 (n,); columns: one a field of the view, each (n,).
        """
        before, after = self._key
        keys = [b"".join((before, len(name).to_bytes(4, "little"), name, after)) for name in names]
        moments = {us: timestamp_us(us) for us in set(at)}
        stamps = list(map(moments.__getitem__, at))
        width = len(self._fields)
        head: tuple[str | bytes | int, ...] = ("EVAL", NEWER, len(keys), *keys, self._stamp, width, *self._fields)
        if self._is_fixed(moments, columns):
            rows = _fixed(stamps, columns)
            return b"*%d\r\n%b%b" % (len(head) + rows.args, pack(*head).partition(b"\r\n")[2], rows.packed)
        values = map(_encoded, self._encode, columns)
        return pack(*head, *(x for row in zip(stamps, *values, strict=True) for x in row))

    def _is_fixed(self, moments: dict[int, bytes], columns: Sequence[Sequence[Value | None]]) -> bool:
        """Whether all rows are of one length: numbers, none of them null."""
        numbers = all(encode is double for encode in self._encode)
        return numbers and len(set(map(len, moments.values()))) == 1 and not any(None in column for column in columns)


class _Rows(NamedTuple):
    args: int
    packed: bytes


def _fixed(stamps: list[bytes], columns: Sequence[Sequence[Value | None]]) -> _Rows:
    """Packed arguments of rows of numbers, all at once: argument by argument they are a third of the door's time."""
    head, value = b"$%d\r\n" % len(stamps[0]), b"$9\r\n%b" % double(0.0)[:1]
    row = b"".join((head, bytes(len(stamps[0])), b"\r\n", *([value + bytes(8) + b"\r\n"] * len(columns))))
    rows = np.tile(np.frombuffer(row, np.uint8), (len(stamps), 1))
    at = len(head)
    rows[:, at : at + len(stamps[0])] = np.frombuffer(b"".join(stamps), np.uint8).reshape(len(stamps), -1)
    at += len(stamps[0]) + 2
    for column in columns:
        at += len(value)
        rows[:, at : at + 8] = np.array(column, "<f8").view(np.uint8).reshape(-1, 8)
        at += 8 + 2
    return _Rows(len(stamps) * (1 + len(columns)), rows.tobytes())


def _encoded(encode: Callable[[Any], bytes], column: Sequence[Value | None]) -> list[bytes]:
    if None not in column:
        return list(map(encode, column))
    return [NULL if value is None else encode(value) for value in column]
