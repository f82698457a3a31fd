"""A person's state as it stands in Redis beside the features: read back under any layout that the store knows.

Hot value: `_HEAD`, then the row's hot part as int64. Cold value: `_HEAD`, length of the name (uint16), the
name (`organisation/user`, and for an anonymous person who was identified a NUL and who it was), closed tiles.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import msgspec
import numpy as np
import redis
import xxhash

from feature_repo import keys
from feature_repo.declare import Array
from flows.plan import Plan
from flows.store import Store
from flows.windows import Reading, Table

VERSION = 1
_HEAD = struct.Struct("<B3xI")  # version, fingerprint of the layout
_NAME = struct.Struct("<H")


class StateError(ValueError):
    """State that this version cannot read."""


class Layouts:
    """Rows written under other layouts, brought into this plan's: what it does not know starts from nothing."""

    def __init__(self, plan: Plan, client: redis.Redis) -> None:
        self.plan = plan
        self.head = _HEAD.pack(VERSION, plan.fingerprint)
        self._client = client
        self._older: dict[bytes, tuple[Array, Array, Array]] = {}

    def register(self) -> None:
        """Tell the store this layout, so that later ones can read what was written under it."""
        self._client.hset(keys.LAYOUTS, str(self.plan.fingerprint), msgspec.json.encode(self.plan.slots))

    def read(self, hot: Sequence[bytes], cold: Sequence[bytes]) -> tuple[Array, list[bytes], list[bytes]]:
        """(hot rows (n, plan.hot), names, closed tiles) of n people's values. Raises StateError."""
        rows = np.zeros((len(hot), self.plan.hot), np.int64)
        names, closed = [], []
        for i, (warm, kept) in enumerate(zip(hot, cold, strict=True)):
            size = _NAME.unpack_from(kept, _HEAD.size)[0]
            start = _HEAD.size + _NAME.size
            names.append(kept[start : start + size])
            rows[i] = self._hot(warm)
            closed.append(self._cold(kept[: _HEAD.size], kept[start + size :]))
        return rows, names, closed

    def _hot(self, value: bytes) -> Array:
        numbers = np.frombuffer(value, np.int64, offset=_HEAD.size)
        if value.startswith(self.head):
            return numbers
        from_, to, _ = self._mapping(value[: _HEAD.size])
        row = np.zeros(self.plan.hot, np.int64)
        row[to] = numbers[from_]
        return row

    def _cold(self, head: bytes, entries: bytes) -> bytes:
        if head == self.head:
            return entries
        columns = self._mapping(head)[2]
        old = np.frombuffer(entries, np.int64)
        column = columns[(old >> 56) & 0xFF]
        known = column >= 0
        moved = (column[known] << 56) | (old[known] & ((1 << 56) - 1))
        return np.sort(moved).tobytes()

    def _mapping(self, head: bytes) -> tuple[Array, Array, Array]:
        """(old slots, new slots, new column of each old column or -1)."""
        if head not in self._older:
            version, fingerprint = _HEAD.unpack(head)
            known = self._client.hget(keys.LAYOUTS, str(fingerprint))
            if version != VERSION or known is None:
                raise StateError(f"state of version {version}, layout {fingerprint}: not one that this store knows")
            old, new = msgspec.json.decode(known, type=list[str]), self.plan.slots
            shared = [(old.index(name), i) for i, name in enumerate(new) if name in old]
            open_ = [name for name in old if name.startswith("open:")]
            now = [name for name in new if name.startswith("open:")]
            columns = np.array([now.index(name) if name in now else -1 for name in open_], np.int64)
            self._older[head] = (np.array([a for a, _ in shared]), np.array([b for _, b in shared]), columns)
        return self._older[head]

    def cold(self, name: bytes, closed: bytes) -> bytes:
        """The cold value of one person."""
        return b"".join((self.head, _NAME.pack(len(name)), name, closed))


class UserState(msgspec.Struct, frozen=True):
    """One person as of `at` (log time, ms), computed from their state by the stream's own code."""

    name: str
    at: int
    features: dict[str, float]
    signals: list[Reading]
    joined: str | None


def key(prefix: bytes, uid: int) -> bytes:
    return prefix + uid.to_bytes(8, "little")


def identity(store: Store, name: bytes) -> int:
    """64-bit identity of `organisation/user` in a store."""
    return xxhash.xxh3_64_intdigest(name, store.seed)


def read_user(client: redis.Redis, store: Store, plan: Plan, name: str) -> UserState | None:
    """The state of `organisation/user`; None while the store does not know them."""
    uid = identity(store, name.encode())
    hot, cold = client.mget([key(keys.HOT, uid), key(keys.COLD, uid)])
    if hot is None or cold is None:
        return None
    rows, names, closed = Layouts(plan, client).read([hot], [cold])
    known, _, joined = names[0].decode().partition("\0")
    if known != name:
        return None
    table = Table(plan, 1)
    row = table.allocate(np.array([uid], np.uint64))
    table.restore(row, rows, closed)
    features = dict(zip(plan.vocabulary.feature_index, table.evaluate(row)[0].tolist(), strict=True))
    return UserState(name, int(rows[0, 0]), features, table.signals(row).of(0), joined or None)
