"""Reading people's state from Redis, ahead of the moment at which it is counted upon."""

from __future__ import annotations

import numpy as np

from feature_repo import keys
from feature_repo.declare import Array
from flows.resp import Connection, pack

State = tuple[list[bytes | None], list[bytes | None]]  # hot, cold; None: nothing there


class Lookups:
    """Hot and cold state by identity.

    What was asked for ahead holds as long as nobody is evicted: who is not in the engine's memory has a state
    that stands still, since the engine alone writes it.
    """

    def __init__(self, connection: Connection, ahead: Connection) -> None:
        self._connection, self._ahead = connection, ahead
        self._asked: Array | None = None
        self._valid = True
        self._found: tuple[Array, State] | None = None

    def ask(self, uids: Array) -> None:
        """Ask for these (distinct, sorted); what was asked for before is taken in first."""
        self.collect()
        if len(uids):
            self._ahead.send(_question(uids))
            self._asked, self._valid = uids, True

    def collect(self) -> None:
        """Take in what was asked for."""
        if self._asked is not None:
            found = _answer(self._ahead.read())
            self._found = (self._asked, found) if self._valid else None
            self._asked = None

    def forget(self) -> None:
        """What was asked for may no longer hold."""
        self._found, self._valid = None, False

    def get(self, uids: Array) -> State:
        """State of these (distinct)."""
        if self._found is None:
            return self._now(uids)
        known, (hot, cold) = self._found
        at = np.minimum(np.searchsorted(known, uids), len(known) - 1)
        missing = np.flatnonzero(known[at] != uids)
        hots, colds = [hot[i] for i in at.tolist()], [cold[i] for i in at.tolist()]
        if len(missing):
            for i, h, c in zip(missing.tolist(), *self._now(uids[missing]), strict=True):
                hots[i], colds[i] = h, c
        return hots, colds

    def _now(self, uids: Array) -> State:
        return _answer(self._connection.call(_question(uids)))


def _question(uids: Array) -> bytes:
    ids = [uid.tobytes() for uid in uids]
    return pack("MGET", *(keys.HOT + i for i in ids), *(keys.COLD + i for i in ids))


def _answer(found: list[bytes | None]) -> State:
    half = len(found) // 2
    return found[:half], found[half:]
