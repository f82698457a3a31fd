"""Entries that went from the log before their time, as by an XTRIM by hand: counted, once all that is left is worked.

Nothing waits any more, and yet more events were accepted than came: what is missing is gone. That needs nothing of the
server, and is exact, since events are accepted with their entry and accounted for with the position.
"""

from __future__ import annotations

import time

from feature_repo import keys
from flows.entry import Kind, events_in
from flows.resp import Connection, pack
from flows.streams import Read

EVERY_S = 1.0
# KEYS: position, log, counts, epoch. ARGV: the position, and the epoch, of whoever asks.
_UNWORKED = b"""
if (redis.call('GET', KEYS[1]) or '0-0') ~= ARGV[1] or redis.call('GET', KEYS[4]) ~= ARGV[2] then return 0 end
if redis.call('XRANGE', KEYS[2], '(' .. ARGV[1], '+', 'COUNT', 1)[1] then return 0 end
local gone, counts = 0, redis.call('HGETALL', KEYS[3])
for i = 1, #counts, 2 do
  if counts[i] == 'accepted' then gone = gone + counts[i + 1] else gone = gone - counts[i + 1] end
end
if gone > 0 then redis.call('HINCRBY', KEYS[3], 'lost', gone) end
return gone
"""
# KEYS: the lake's position, log, counts, the lake's counts. A lake of before they were counted has all until now.
_UNKEPT = b"""
if (redis.call('GET', KEYS[1]) or '0-0') ~= ARGV[1] then return 0 end
if redis.call('XRANGE', KEYS[2], '(' .. ARGV[1], '+', 'COUNT', 1)[1] then return 0 end
local accepted = redis.call('HGET', KEYS[3], 'accepted') or 0
if redis.call('HSETNX', KEYS[4], 'events', accepted) == 1 then return 0 end
local gone = accepted - redis.call('HGET', KEYS[4], 'events') - (redis.call('HGET', KEYS[4], 'missing') or 0)
if gone > 0 then redis.call('HINCRBY', KEYS[4], 'missing', gone) end
return gone
"""
_KEEP = b"""
redis.call('SET', KEYS[1], ARGV[1])
if redis.call('EXISTS', KEYS[2]) == 1 then redis.call('HINCRBY', KEYS[2], 'events', ARGV[2]) end
return 1
"""


class Gaps:
    """Says when it is time to look again."""

    def __init__(self) -> None:
        self._looked = time.monotonic()

    def due(self) -> bool:
        now = time.monotonic()
        if now - self._looked < EVERY_S:
            return False
        self._looked = now
        return True


def unworked(connection: Connection, partition: int, position: bytes, epoch: int) -> int:
    """Counts what an engine that has nothing of this partition in memory will never get."""
    where = keys.position(partition), keys.log(partition), keys.counts(partition), keys.epoch(partition)
    return int(connection.call(pack("EVAL", _UNWORKED, 4, *where, position, epoch)))


def unkept(partition: int, position: bytes) -> tuple[str | bytes | int, ...]:
    """The command that counts what a lake that holds back nothing of this partition will never get."""
    where = keys.lake_position(partition), keys.log(partition), keys.counts(partition), keys.lake_counts(partition)
    return ("EVAL", _UNKEPT, 4, *where, position)


def keep(partition: int, last: bytes, events: int) -> tuple[str | bytes | int, ...]:
    """The command that commits the lake's position, with so many events more."""
    return ("EVAL", _KEEP, 2, keys.lake_position(partition), keys.lake_counts(partition), last, events)


def accepted(read: Read) -> int:
    """How many events an entry was counted as when it was appended."""
    if read.entry is None:
        return events_in(read.fields.get(b"r", b""))
    if read.entry.kind not in {Kind.EVENTS, Kind.PUSH}:
        return 0
    return len(read.entry) - len(read.entry.join_at)
