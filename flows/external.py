"""The write of an external view: rows into Feast's hashes, each only if it is newer than what stands there."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from feature_repo.declare import Entity, Value, View
from feature_repo.layout import NULL, double, entity_key, field, integer, text, timestamp_field, timestamp_us
from flows.resp import pack

# KEYS: a hash a row. ARGV: the timestamp's field, how many fields, their names; then a row's timestamp and values.
# As Feast does, a row that is not newer than what stands there, be it of this batch, changes nothing.
# Never fails half-way: returns [rows written, the first error or nil].
NEWER = """
local function read(stamp)
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
  if found[8] >= 2 ^ 63 then return 0, 0 end
  return found[8], found[16]
end
local stamp_field, width = ARGV[1], tonumber(ARGV[2])
local row, at, written, wrong = {}, 2 + width, 0, false
for i = 1, width do row[2 * i + 2] = ARGV[2 + i] end
for _, key in ipairs(KEYS) do
  local stood = redis.pcall('HGET', key, stamp_field)
  if type(stood) == 'table' then
    wrong = wrong or stood.err
  else
    local seconds, nanos = read(ARGV[at + 1])
    local before, rest = read(stood or '')
    if before + rest == 0 or seconds > before or (seconds == before and nanos > rest) then
      row[1], row[2], row[3] = key, stamp_field, ARGV[at + 1]
      for i = 1, width do row[2 * i + 3] = ARGV[at + 1 + i] end
      local done = redis.pcall('HSET', unpack(row))
      if type(done) == 'table' then wrong = wrong or done.err else written = written + 1 end
    end
  end
  at = at + 1 + width
end
return {written, wrong}
"""
_BYTES: dict[str, Callable[..., bytes]] = {"number": double, "integer": integer, "text": text}


class ExternalView:
    """Feast's bytes of one view that outside data fills."""

    def __init__(self, view: View, entity: Entity) -> None:
        self._join_key, self._stamp = entity.join_key, timestamp_field(view.name)
        self._fields = [field(view.name, f.name) for f in view.fields]
        self._encode = [_BYTES[f.kind] for f in view.fields]

    def write(self, names: Sequence[bytes], at: Sequence[int], columns: Sequence[Sequence[Value | None]]) -> bytes:
        """A packed command for n rows, which answers [rows written, error or None].

        names: `organisation/id` (n,); at: microseconds since 1970 (n,); columns: one a field of the view, each (n,).
        """
        keys = [entity_key(self._join_key, name) for name in names]
        values = [
            [NULL if value is None else encode(value) for value in column]
            for encode, column in zip(self._encode, columns, strict=True)
        ]
        stamps = {us: timestamp_us(us) for us in set(at)}
        rows = [x for row in zip(map(stamps.__getitem__, at), *values, strict=True) for x in row]
        return pack("EVAL", NEWER, len(keys), *keys, self._stamp, len(self._fields), *self._fields, *rows)
