"""The write of an external view: rows into Feast's hashes, each only if it is newer than what stands there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

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
local function newer(stamp, stood)
  local came, before = read(stamp), read(stood)
  if before[8] == came[8] then return came[16] > before[16] or before[8] + before[16] == 0 end
  return came[8] > before[8] or before[8] + before[16] == 0
end
local call, stamp_field, width = redis.pcall, ARGV[1], tonumber(ARGV[2])
local row, at, tried, wrong = {'HSET', '', stamp_field}, 3 + width, 0, false
for i = 1, width do row[3 + 2 * i] = ARGV[2 + i] end
for _, key in ipairs(KEYS) do
  local done = call('HGET', key, stamp_field)
  if not done or type(done) == 'string' and newer(ARGV[at], done) then
    row[2], row[4] = key, ARGV[at]
    for i = 1, width do row[4 + 2 * i] = ARGV[at + i] end
    done = call(unpack(row, 1, 4 + 2 * width))
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
        values = map(_encoded, self._encode, columns)
        stamps = {us: timestamp_us(us) for us in set(at)}
        rows = [x for row in zip(map(stamps.__getitem__, at), *values, strict=True) for x in row]
        return pack("EVAL", NEWER, len(keys), *keys, self._stamp, len(self._fields), *self._fields, *rows)


def _encoded(encode: Callable[[Any], bytes], column: Sequence[Value | None]) -> list[bytes]:
    if None not in column:
        return list(map(encode, column))
    return [NULL if value is None else encode(value) for value in column]
