"""An entry that ends the engine whenever it is worked: found one entry at a time, and set aside after some tries.

Nothing says why a process died, so of each partition the deaths of its engines without a step forward are counted,
whoever had it. After LIVES of them entries are worked one by one, each noted before and committed after; one over which
TRIES processes died goes to the dead ones, and the rest flows. Where an engine works nothing any more it is not the
entries: after MOST in a row none is given up.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import cast

import redis

from feature_repo import keys
from flows.engine import Engine
from flows.streams import Read

LIVES = 5  # also of an engine that is killed again and again, so that bad luck is not taken for poison
TRIES = 5
MOST = 10
ENOUGH = 1_000  # entries worked one by one without a death
IN_A_ROW = "in a row"  # beside a partition's entries: how many were set aside since its engine worked one
_log = logging.getLogger(__name__)


class Caution:
    """How the entries of one process' engines are handed over. `begin` it with each engine."""

    def __init__(self) -> None:
        self._at = ""  # the entry that is worked alone
        self._counted = set[int]()  # partitions in which this process stands for a life

    def begin(self, engine: Engine, client: redis.Redis) -> None:
        """A new life: of the process, or within it, of another share or after the store was away."""
        self._engine, self._client = engine, client
        if self._at:  # the process outlived it
            client.hdel(keys.TRIES, self._at)
        self._at, self._set_aside = "", False
        self._held: deque[Read] = deque()
        self._worked, self._handed = 0, set[int]()
        self._stood = self._positions()
        deaths, self._unsure = self._deaths(), True
        self.careful = deaths >= LIVES or bool(self._tried())
        if self.careful:
            _log.warning(
                "engines died %d times where this one stands: it works one entry at a time for a while", deaths
            )

    def _deaths(self) -> int:
        """In that of its partitions that has most of them, without this life."""
        mine = set(self._engine.partitions)
        with self._client.pipeline(transaction=False) as pipe:
            for p in mine:
                (pipe.get if p in self._counted else pipe.incr)(keys.deaths(p))
            found = pipe.execute()
        self._counted |= mine
        return max(int(deaths or 0) for deaths in found) - 1

    def _tried(self) -> dict[bytes, int]:
        """What stands of its partitions in the hash of tries."""
        mine = {b"%d" % p for p in self._engine.partitions}
        found = cast(dict[bytes, bytes], self._client.hgetall(keys.TRIES))
        return {field: int(n) for field, n in found.items() if field.partition(b":")[0] in mine}

    def read(self) -> list[Read]:
        """What to work next."""
        if self.careful:
            return self._one()
        if self._unsure and self._goes_on():
            self.survived()
        reads = self._engine.read()
        if self._unsure:
            self._handed.update(read.partition for read in reads)
        return reads

    def survived(self) -> None:
        """The engine goes on, or ended for a reason that it knows: no entry is to blame."""
        self._unsure = self.careful = False
        self._at = ""
        self._client.delete(*map(keys.deaths, self._engine.partitions))
        if tried := self._tried():
            self._client.hdel(keys.TRIES, *tried)

    def ended(self) -> None:
        """All that was read is written. Who looks for an entry one by one leaves word for whoever goes on with it."""
        if not self.careful:
            self.survived()

    def _goes_on(self) -> bool:
        """Each partition of which it was given something came a step forward, or there is nothing to give."""
        now = self._positions()
        return self._engine.reader.caught_up and all(now[p] != self._stood[p] for p in self._handed)

    def _positions(self) -> dict[int, bytes]:
        return {p: partition.position for p, partition in self._engine.partitions.items()}

    def _one(self) -> list[Read]:
        if self._at and not self._is_committed():
            return []
        if not self._held:
            self._held.extend(self._engine.read())
        if self._worked >= ENOUGH or (not self._held and self._engine.reader.caught_up):
            self.survived()
            return list(self._held)
        return [self._noted(self._held.popleft())] if self._held else []

    def _is_committed(self) -> bool:
        """What was handed over may still be on its way through the dataflow."""
        partition, _, entry = self._at.partition(":")
        if self._engine.partitions[int(partition)].position != entry.encode():
            self._engine.flush()
        if self._engine.partitions[int(partition)].position != entry.encode():
            return False
        with self._client.pipeline(transaction=True) as pipe:
            pipe.hdel(keys.TRIES, self._at)
            if self._set_aside:
                pipe.hincrby(keys.TRIES, f"{partition}:{IN_A_ROW}", 1)
            else:
                pipe.hdel(keys.TRIES, *(f"{p}:{IN_A_ROW}" for p in self._engine.partitions))
            pipe.execute()
        self._at, self._worked = "", self._worked + 1
        return True

    def _noted(self, read: Read) -> Read:
        self._at = f"{read.partition}:{read.id.decode()}"
        tries = int(self._client.hincrby(keys.TRIES, self._at, 1))
        row = sum(n for field, n in self._tried().items() if field.endswith(IN_A_ROW.encode()))
        self._set_aside = tries > TRIES and row < MOST
        if self._set_aside:
            read.entry, read.error = None, f"{TRIES} engines died over it"
        return read
