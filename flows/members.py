"""Which engines share a store, and which partitions each of them works. Nobody hands these out: each works out its own.

An engine says each second that it lives, by the store's clock, and with the same command keeps its leases. Who has not
for LEASE_MS is dead to the others, and its leases are over at the same moment.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import msgspec
import redis
import xxhash

from feature_repo import keys
from flows.partition import LEASE_MS, Fenced
from flows.resp import StoreError
from flows.stopping import Stop

EVERY_S = 1.0
LOOK_S = 0.1  # between two looks of an engine that waits for partitions
PATIENCE_S = 2.0  # it waits for all of its share, since others notice it within a second; then what there is will do
FORGET_MS = 3_600_000  # how long it is known who has died
_log = logging.getLogger(__name__)

# KEYS: the engines, each partition's lease. ARGV: a name, its vocabulary, LEASE_MS, of each partition 1 where it is
# wanted: then it is taken or kept if nobody else has it; one that is not wanted is given back. Returns the store's
# time (ms), the engines, and who has each partition.
BEAT = b"""
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
redis.call('HSET', KEYS[1], ARGV[1], now .. ' ' .. ARGV[2])
local owners = {}
for i = 2, #KEYS do
  local owner = redis.call('GET', KEYS[i]) or ''
  if ARGV[i + 2] == '1' and (owner == '' or owner == ARGV[1]) then
    owner = ARGV[1]
    redis.call('SET', KEYS[i], owner, 'PX', ARGV[3])
  elseif owner == ARGV[1] then
    owner = ''
    redis.call('DEL', KEYS[i])
  end
  owners[i - 1] = owner
end
return {now, redis.call('HGETALL', KEYS[1]), owners}
"""


class Said(msgspec.Struct, frozen=True):
    """When an engine last spoke (ms, the store's clock), and which vocabulary it runs."""

    at: int
    vocabulary: int

    def lives(self, now_ms: int) -> bool:
        return abs(now_ms - self.at) < LEASE_MS  # also where the store's clock was set back


class View(msgspec.Struct, frozen=True):
    """The store as one beat saw it. `owners`: by partition, empty where there is none."""

    now_ms: int
    engines: dict[str, Said]
    owners: list[str]

    def alive(self, vocabulary: int) -> list[str]:
        return [
            name for name, said in self.engines.items() if said.lives(self.now_ms) and said.vocabulary == vocabulary
        ]


def engines(found: Mapping[bytes, bytes]) -> dict[str, Said]:
    """The hash `keys.ENGINES`."""
    return {name.decode(): Said(*map(int, said.split())) for name, said in found.items()}


def shares(names: Iterable[str], partitions: int) -> dict[str, list[int]]:
    """Who works which: each partition has one engine, and no engine has two more than another.

    Pairs of engine and partition in the order of their hash, as far as there is room: so little moves when one comes or
    goes, whatever the others are called.
    """
    found: dict[str, list[int]] = {name: [] for name in names}
    least, more = divmod(partitions, len(found))
    taken = set[int]()
    for _, name, p in sorted((_hash(name, p), name, p) for name in found for p in range(partitions)):
        if p not in taken and len(found[name]) < least + (more > 0):
            taken.add(p)
            found[name].append(p)
            more -= len(found[name]) > least
    return found


def _hash(name: str, partition: int) -> int:
    return xxhash.xxh3_64_intdigest(f"{partition} {name}".encode())


class Member:
    """One engine among those of its store, from `join` until `stop`.

    `failed`: what ended its thread. `moved`: its share is another by now, and what it lacks of it can be had.
    """

    def __init__(self, client: redis.Redis, name: str, vocabulary: int, partitions: int) -> None:
        """`vocabulary`: a fingerprint; engines of different ones do not share."""
        self.name, self.moved = name, False
        self.failed: StoreError | None = None
        self._client, self._vocabulary, self._partitions = client, vocabulary, partitions
        self._held, self._waits = frozenset[int](), False
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="member", daemon=True)

    def join(self, stopping: Stop) -> list[int]:
        """Our partitions: the whole share, or what of it there is after a while. Empty when stopped before."""
        wanted, since = frozenset[int](), time.monotonic()
        while not stopping.is_set():
            view = self.beat(wanted)  # the first one only says that we live
            self._held = frozenset(p for p in wanted if view.owners[p] == self.name)
            mine = self._may_have(view)
            if mine != wanted:
                wanted, since = mine, time.monotonic()
            elif self._held and (self._held == mine or time.monotonic() - since > PATIENCE_S):
                self._thread.start()
                return sorted(self._held)
            else:
                stopping.wait(LOOK_S)
        return []

    def beat(self, wanted: Collection[int]) -> View:
        """Says that we live; holds the leases of these partitions, as far as they are to be had, and no others."""
        leases = [keys.lease(p) for p in range(self._partitions)]
        flags = [int(p in wanted) for p in range(self._partitions)]
        told: Any = self._client.eval(
            BEAT, 1 + len(leases), keys.ENGINES, *leases, self.name, self._vocabulary, LEASE_MS, *flags
        )
        now, flat, owners = told
        view = View(int(now), engines(dict(zip(flat[::2], flat[1::2], strict=True))), [o.decode() for o in owners])
        if long_dead := [name for name, said in view.engines.items() if view.now_ms - said.at > FORGET_MS]:
            self._client.hdel(keys.ENGINES, *long_dead)
        return view

    def stop(self) -> None:
        """What is held stays so until its leases are over."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join(5)

    def leave(self) -> None:
        """So that the others need not wait."""
        self.stop()
        self.beat(())
        self._client.hdel(keys.ENGINES, self.name)
        self._client.delete(keys.gauges(self.name))

    def _share(self, view: View) -> frozenset[int]:
        return frozenset(shares(view.alive(self._vocabulary), self._partitions)[self.name])

    def _may_have(self, view: View) -> frozenset[int]:
        """Nothing while an engine of another vocabulary is at work: what one counts the other would leave out."""
        at_work = {owner: view.engines[owner] for owner in view.owners if owner in view.engines}
        others = sorted(name for name, said in at_work.items() if said.vocabulary != self._vocabulary)
        if others and not self._waits:
            _log.warning("waiting until %s, which has another vocabulary, is stopped", ", ".join(others))
        self._waits = bool(others)
        return frozenset() if others else self._share(view)

    def _run(self) -> None:
        while not self._ending.wait(EVERY_S):
            try:
                view = self.beat(self._held)
            except redis.RedisError as error:
                self.failed = StoreError(str(error))
                return
            if lost := [p for p in self._held if view.owners[p] != self.name]:
                self.failed = Fenced(f"partition {lost[0]}: the lease is now {view.owners[lost[0]]!r}'s")
                return
            mine = self._share(view)
            self.moved = bool(self._held - mine) or any(not view.owners[p] for p in mine - self._held)
