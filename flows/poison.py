"""An entry that ends the engine whenever it is worked: found one entry at a time, and set aside after some tries.

Nothing says why a process died, so a store counts its engine's deaths without a step forward. After LIVES of them
entries are worked one by one, each noted before and committed after; one over which TRIES processes died goes to the
dead ones, and the rest flows. Where nothing goes any more it is not the entries: after MOST in a row none is given up.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import Any

import redis

from feature_repo import keys
from flows.engine import Engine
from flows.streams import Read

LIVES = 5  # also of an engine that is killed again and again, so that bad luck is not taken for poison
TRIES = 5
MOST = 10
ENOUGH = 1_000  # entries worked one by one without a death
IN_A_ROW = "in a row"  # beside the entries: how many were set aside since one was worked
_log = logging.getLogger(__name__)


class Caution:
    """How the entries of one process' engines are handed over. `begin` it with each engine."""

    def __init__(self) -> None:
        self._at = ""  # the entry that is worked alone
        self._counted = False

    def begin(self, engine: Engine, client: redis.Redis) -> None:
        """A new life: of the process, or, after the store was away, within it."""
        self._engine, self._client = engine, client
        if self._at:  # the process outlived it
            client.hdel(keys.TRIES, self._at)
        self._at, self._set_aside = "", False
        self._held: deque[Read] = deque()
        self._worked, self._handed = 0, set[int]()
        self._stood = self._positions()
        deaths = int(client.incr(keys.DEATHS) if not self._counted else client.get(keys.DEATHS) or 0) - 1
        self._counted, self._unsure = True, True
        self.careful = deaths >= LIVES or bool(client.exists(keys.TRIES))
        if self.careful:
            _log.warning("the engine died %d times where it stands: it works one entry at a time for a while", deaths)

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
        self._client.delete(keys.DEATHS, keys.TRIES)
        self._at = ""

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
                pipe.hincrby(keys.TRIES, IN_A_ROW, 1)
            else:
                pipe.hdel(keys.TRIES, IN_A_ROW)
            pipe.execute()
        self._at, self._worked = "", self._worked + 1
        return True

    def _noted(self, read: Read) -> Read:
        self._at = f"{read.partition}:{read.id.decode()}"
        with self._client.pipeline(transaction=True) as pipe:
            pipe.hincrby(keys.TRIES, self._at, 1)
            pipe.hget(keys.TRIES, IN_A_ROW)
            found: Any = pipe.execute()
        self._set_aside = found[0] > TRIES and int(found[1] or 0) < MOST
        if self._set_aside:
            read.entry, read.error = None, f"{TRIES} engines died over it"
        return read
