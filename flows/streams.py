"""Reading the log: all partitions of one worker in one blocking read, decoded into columns."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgspec

from feature_repo import keys
from flows.entry import Entry, EntryError, decode
from flows.resp import Connection, Lost, pack

APPEND_AT = b"""
local last = 0
if redis.call('EXISTS', KEYS[1]) == 1 then
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then last = tonumber(string.match(info[i + 1], '^%d+')) end
  end
end
local ms = string.format('%.0f', math.max(last, tonumber(ARGV[1])))
return redis.call('XADD', KEYS[1], ms .. '-*', unpack(ARGV, 2))
"""


def append(clock: str, partition: int, ms: int, *fields: str | bytes) -> bytes:
    """A packed command that appends our own entry: at the store's time, or in a log-clock store at `ms` or later."""
    if clock == "wall":
        return pack("XADD", keys.log(partition), "*", *fields)
    return pack("EVAL", APPEND_AT, 1, keys.log(partition), ms, *fields)


TARGET = 8_192  # events a read aims at
MOST = 1_000  # entries of one partition a read


class Read(msgspec.Struct):
    """One entry as read: a decoded one, or the reason why it cannot be."""

    partition: int
    id: bytes
    ms: int
    entry: Entry | None
    error: str
    fields: dict[bytes, bytes]


class LogReader:
    """Reads entries after each partition's position, in the log's order."""

    def __init__(self, connection: Connection, positions: dict[int, bytes]) -> None:
        self.positions = dict(positions)
        self._connection = connection
        self._number = {keys.log(p).encode(): p for p in positions}
        self._mean = 500.0  # events an entry, lately: begin careful, a first read must not be the whole log
        self.caught_up = False
        self._asked = 0  # entries of a partition that the question under way asks for

    def read(self, wait_ms: int) -> list[Read]:
        """Entries that have come, waiting at most `wait_ms` for the first (0 = not at all)."""
        if not self._asked:
            self._ask(wait_ms if self.caught_up else 0)
        asked, self._asked = self._asked, 0
        found = self._connection.read() or ()
        self.caught_up = all(len(entries) < asked for _, entries in found)
        reads = [read for name, entries in found for read in self._decoded(self._number[name], entries)]
        if reads:
            events = sum(len(r.entry) for r in reads if r.entry)
            self._mean = max(events / len(reads), 0.9 * self._mean, 1.0)
        if not self.caught_up:
            with suppress(Lost):  # the next read says so: this one has answers, and `positions` counts them as read
                self._ask(0)
        return reads

    def _ask(self, wait_ms: int) -> None:
        """Ask for what comes next: while we count, the store prepares the answer."""
        count = int(min(MOST, max(1.0, TARGET / self._mean / len(self.positions))))
        block = ("BLOCK", wait_ms) if wait_ms else ()
        streams = (keys.log(p) for p in self.positions)
        self._connection.send(pack("XREAD", "COUNT", count, *block, "STREAMS", *streams, *self.positions.values()))
        self._asked = count

    def _decoded(self, partition: int, entries: list[Any]) -> list[Read]:
        self.positions[partition] = entries[-1][0]
        return [_read(partition, id_, dict(zip(fields[::2], fields[1::2], strict=True))) for id_, fields in entries]


def _read(partition: int, id_: bytes, fields: dict[bytes, bytes]) -> Read:
    ms = int(id_.partition(b"-")[0])
    try:
        return Read(partition, id_, ms, decode(fields.get(b"e", b"")), "", fields)
    except (EntryError, ValueError) as error:
        return Read(partition, id_, ms, None, str(error), fields)
