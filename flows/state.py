"""A person's state as it stands in Redis beside the features: read back under any layout that the store knows.

Hot value: `_HEAD`, then the row's hot part as int64. Cold value: `_HEAD`, length of the name (uint16), the
name (`organisation/user`, and for an anonymous person who was identified a NUL, who it was, a NUL and when that was
said, ms), closed tiles.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from functools import cached_property
from types import MappingProxyType

import msgspec
import numpy as np
import redis
import xxhash

from feature_repo import keys
from feature_repo.declare import Array
from flows import tiles
from flows.code_version import code_version
from flows.eras import Eras
from flows.plan import Plan
from flows.resp import StoreError
from flows.store import Store
from flows.windows import Reading, Table

VERSION = 1
_HEAD = struct.Struct("<BxHI")  # version, era, fingerprint of the layout
_NAME = struct.Struct("<H")


class StateError(StoreError):
    """State that this version cannot read."""


class _Older(msgspec.Struct, frozen=True):
    """How rows under another head become today's: slots from, slots to; columns: today's of each old one, or -1.

    `cuts` (today's columns): the last tile that is not whole in them, see `Eras.cuts`. `same`: nothing differs.
    """

    from_: Array
    to: Array
    columns: Array
    cuts: Array
    same: bool


class Layouts:
    """Rows written under other layouts, brought into this plan's: what it does not know starts from nothing."""

    def __init__(self, plan: Plan, client: redis.Redis) -> None:
        self.plan = plan
        self.eras = Eras(plan, client)
        self._client = client
        self._older: dict[bytes, _Older] = {}

    @cached_property
    def head(self) -> bytes:
        """Before each value that is written now."""
        return _HEAD.pack(VERSION, self.eras.today, self.fingerprint)

    @cached_property
    def fingerprint(self) -> int:
        """32 bits over the layout and the code that computes features: what a row was written under."""
        told = "\n".join(self.plan.slots), str(code_version(self.plan.vocabulary))
        return xxhash.xxh32_intdigest("\n".join(told).encode())

    def register(self, positions: Mapping[int, bytes] = MappingProxyType({})) -> None:
        """Tell the store this layout, so that later ones can read what was written under it; and begin its era.

        `positions`: of the partitions that are ours, where each stands. To be called before anything is read.
        """
        self._client.hset(keys.LAYOUTS, str(self.fingerprint), msgspec.json.encode(self.plan.slots))
        self.eras.enter(positions)

    def era(self, value: bytes) -> int:
        """In which era a hot value was written."""
        return int(_HEAD.unpack_from(value)[1])

    def read(self, hot: Sequence[bytes], cold: Sequence[bytes]) -> tuple[Array, list[bytes], list[bytes]]:
        """(hot rows (n, plan.hot), names, closed tiles) of n people's values. Raises StateError.

        What is left of a tile that is not whole is dropped, so that it is known what a row lacks.
        """
        rows = np.zeros((len(hot), self.plan.hot), np.int64)
        names, closed = [], []
        for i, (warm, kept) in enumerate(zip(hot, cold, strict=True)):
            rows[i] = self._hot(warm, self._older_than_today(warm))
            older = self._older_than_today(kept)
            name, entries = _parts(kept)
            names.append(name)
            closed.append(self._cold(entries, older))
        return rows, names, closed

    def _older_than_today(self, value: bytes) -> _Older | None:
        """How to read the value, before anything else of it is read; None: as it stands. Raises StateError."""
        if value.startswith(self.head):
            return None
        older = self._mapping(value[: _HEAD.size])
        return None if older.same else older

    def _hot(self, value: bytes, older: _Older | None) -> Array:
        numbers, plan = np.frombuffer(value, np.int64, offset=_HEAD.size), self.plan
        if older is None:
            return numbers
        row = np.zeros(plan.hot, np.int64)
        row[older.to] = numbers[older.from_]
        row[plan.today : plan.last][row[0] // plan.unit <= older.cuts] = 0
        return row

    def _cold(self, entries: bytes, older: _Older | None) -> bytes:
        if older is None:
            return entries
        key, amount, owner = tiles.read([entries])
        column = older.columns[key >> tiles.TILE]
        tile = key & tiles.TILE_MASK
        whole = (column >= 0) & (tile > older.cuts[column])
        key = tiles.key(column, tile)[whole]
        order = np.argsort(key, kind="stable")
        return tiles.write(key[order], amount[whole][order], owner[whole], 1)[0]

    def _mapping(self, head: bytes) -> _Older:
        if head not in self._older:
            _refuse_unknown(head)
            _, era, fingerprint = _HEAD.unpack(head)
            known = self._client.hget(keys.LAYOUTS, str(fingerprint))
            if known is None:
                raise StateError(f"state of layout {fingerprint}: not one that this store knows")
            old, new = msgspec.json.decode(known, type=list[str]), self.plan.slots
            shared = [(old.index(name), i) for i, name in enumerate(new) if name in old]
            open_ = [name for name in old if name.startswith("open:")]
            now = [name for name in new if name.startswith("open:")]
            columns = np.array([now.index(name) if name in now else -1 for name in open_], np.int64)
            from_, to = np.array(shared, np.int64).T
            cuts = self.eras.cuts(era)
            self._older[head] = _Older(from_, to, columns, cuts, same=old == new and bool((cuts < 0).all()))
        return self._older[head]

    def cold(self, name: bytes, closed: bytes) -> bytes:
        """The cold value of one person."""
        return b"".join((self.head, _NAME.pack(len(name)), name, closed))


def _refuse_unknown(value: bytes) -> None:
    """Raises StateError for what another version of the state wrote."""
    if len(value) < _HEAD.size:
        raise StateError(f"state of {len(value)} bytes: expected at least the {_HEAD.size} of its head")
    if (version := value[0]) != VERSION:
        raise StateError(
            f"state of version {version}: not one that this Telltale reads (it reads {VERSION}); nothing of it was "
            "changed, so start the Telltale that wrote it, or a newer one"
        )


def _parts(cold: bytes) -> tuple[bytes, bytes]:
    """(name, closed tiles) of a cold value."""
    start = _HEAD.size + _NAME.size
    end = start + _NAME.unpack_from(cold, _HEAD.size)[0]
    return cold[start:end], cold[end:]


class UserState(msgspec.Struct, frozen=True):
    """One person as of `at` (log time, ms), computed from their state by the stream's own code."""

    name: str
    at: int
    features: dict[str, float | None]
    signals: list[Reading]
    joined: str | None


def is_later(name: bytes, at: int) -> bool:
    """Whether who a person is, as said at `at` (ms), is no older than what their name in the cold value says."""
    said = name.split(b"\0")[2:]
    return not said or at >= int(said[0])


def identified(client: redis.Redis, store: Store, name: str) -> tuple[str, int] | None:
    """Who `organisation/anon:id` turned out to be (`organisation/user`), and when that was said (ms); None: nobody.

    Raises StateError.
    """
    cold = client.get(key(keys.COLD, identity(store, name.encode())))
    if cold is None:
        return None
    _refuse_unknown(cold)
    anonymous, user, said = (*_parts(cold)[0].decode().split("\0"), "", "0")[:3]
    return (user, int(said)) if anonymous == name and user else None


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
    layouts = Layouts(plan, client)
    rows, names, closed = layouts.read([hot], [cold])
    known, joined, _ = (*names[0].decode().split("\0"), "", "")[:3]
    if known != name:
        return None
    table = Table(plan, 1)
    row = table.allocate(np.array([uid], np.uint64))
    table.restore(row, rows, closed)
    values = table.evaluate(row)
    layouts.eras.hide(rows, values)
    known_values = (None if np.isnan(x) else x for x in values[0].tolist())
    features = dict(zip(plan.vocabulary.feature_index, known_values, strict=True))
    return UserState(name, int(rows[0, 0]), features, table.signals(row).of(0), joined or None)
