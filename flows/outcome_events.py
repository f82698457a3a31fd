"""Outcome events (a home listed, a loan refinanced) on their way from the engine to those who learn from them.

One entry of the stream `keys.outcomes` a flush, in the flush's own transaction, so each is there once, whatever is
killed when. Fields: `n` events, `o` the events (JSON, `OutcomeEvent`).
"""

from __future__ import annotations

import msgspec
import numpy as np
import redis

from feature_repo import keys
from feature_repo.declare import Array
from feature_repo.vocabulary import Vocabulary
from flows.resp import pack
from flows.served import drop_oldest

MOST = 64_000_000  # bytes that wait in Redis, of all partitions, while nobody comes for them


class OutcomeEvent(msgspec.Struct, array_like=True, frozen=True):
    """Whose (`organisation/user`), which event type, its own time and the log's, ms since 1970."""

    person: str
    event: str
    ts: int
    at: int


class Outcomes:
    """Which codes of the log are outcomes."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.names = [code.event for code in vocabulary.codes]
        told = {event.name for event in vocabulary.events if event.role == "outcome"}
        self._is = np.array([name in told for name in self.names] + [False], bool)  # the last: what is no event type

    def among(self, code: Array) -> Array:
        """Which of these codes (n,) are: places."""
        return np.flatnonzero(self._is[np.minimum(code, len(self.names))])


def command(clock: str, partition: int, position: bytes, events: list[OutcomeEvent]) -> bytes:
    """A packed XADD of what a flush up to `position` counted."""
    id_ = b"*" if clock == "wall" else position.partition(b"-")[0] + b"-*"
    return pack("XADD", keys.outcomes(partition), id_, "n", len(events), "o", msgspec.json.encode(events))


def decode(fields: dict[bytes, bytes]) -> list[OutcomeEvent]:
    """The events of an entry. Raises ValueError for one that is not ours."""
    try:
        return msgspec.json.decode(fields[b"o"], type=list[OutcomeEvent])
    except (KeyError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"expected outcome events: {error!r}") from error


def bound(client: redis.Redis, partition: int, most: int) -> int:
    """Drops the oldest entries while the stream takes more than `most` bytes; counts and returns the events dropped."""
    return drop_oldest(client, keys.outcomes(partition), keys.outcomes_dropped(partition), most)
