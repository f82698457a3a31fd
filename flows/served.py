"""Features as they were served: what a flush wrote of the people whom the lake follows, on its way to the lake.

One entry of the stream `keys.served` a flush, in the flush's own transaction: a row is there exactly if the features
are. Fields: `n` rows, `p` the position of the flush, `f` the rows (little endian, zstd where it pays): identities
(uint64), now (int64 ms), values (float64, NaN = null), names; where somebody was scored `s`: the set of models (uint32,
see `flows/scored.py`) and of each row and model raw and calibrated score (float32, NaN = none).
"""

from __future__ import annotations

import struct
from typing import Any

import msgspec
import numpy as np
import redis
import xxhash
import zstandard

from feature_repo import keys
from feature_repo.declare import Array
from feature_repo.vocabulary import Vocabulary
from flows.plan import Plan
from flows.resp import pack
from flows.store import Store

VERSION = 1
SMALL = 1_024  # bytes below which compression does not pay
_HEADER = struct.Struct("<B3xIIII")  # version, feature set, rows, features, bytes of names
_ZSTD = b"\x28\xb5\x2f\xfd"
_PIECE = 64  # entries dropped at once
_compressor = zstandard.ZstdCompressor(level=1, write_checksum=False)


class ServedRows(msgspec.Struct):
    """Rows of one flush: uid uint64 (n,), now int64 ms (n,), values float64 (n, features), `organisation/user`s.

    `scores`: raw and calibrated, float32 (n, models, 2), NaN = none, of the models of `score_set`; 0: of nobody.
    """

    position: bytes
    feature_set: int
    uid: Array
    now: Array
    values: Array
    names: list[bytes]
    score_set: int = 0
    scores: Array = np.zeros((0, 0, 2), np.float32)


class Served:
    """Whom the lake follows, and the command that hands their rows over. `share` of all people, by identity."""

    def __init__(self, plan: Plan, store: Store, share: float) -> None:
        self._set, self._names = feature_set(plan), [f.name for f in plan.vocabulary.features]
        self._clock = store.clock
        self._share = share

    def register(self, client: redis.Redis) -> None:
        """Tell the store what the columns are."""
        client.hset(keys.FEATURE_SETS, str(self._set), msgspec.json.encode(self._names))

    def followed(self, uids: Array) -> Array:
        """Positions of those whose rows the lake gets."""
        return np.flatnonzero(follows(uids, self._share))

    def command(self, partition: int, rows: ServedRows) -> bytes:
        """A packed XADD. `rows.feature_set` does not matter."""
        body = _encode(self._set, rows)
        # In the log's time, as all that the lake holds.
        id_ = "*" if self._clock == "wall" else rows.position.partition(b"-")[0] + b"-*"
        more = ("s", _encode_scores(rows)) if rows.score_set else ()
        return pack("XADD", keys.served(partition), id_, "n", len(rows.names), "p", rows.position, "f", body, *more)


def follows(uids: Array, share: float) -> Array:
    """Whether the lake follows these identities, uint64 (n,): by the upper half, as the lower chooses the partition."""
    return (uids >> np.uint64(32)) < round(share * 2**32)


def feature_set(plan: Plan) -> int:
    """32 bits over the features' names and what they are counted from: rows of two sets are not compared."""
    return xxhash.xxh32_intdigest("\n".join([*names(plan.vocabulary), *plan.slots]).encode())


def names(vocabulary: Vocabulary) -> list[str]:
    return [feature.name for feature in vocabulary.features]


def _encode(set_: int, rows: ServedRows) -> bytes:
    joined = b"".join(rows.names)
    ends = np.cumsum(np.fromiter(map(len, rows.names), np.uint32, len(rows.names)), dtype=np.uint32)
    header = _HEADER.pack(VERSION, set_, len(rows.names), rows.values.shape[1], len(joined))
    columns = (np.ascontiguousarray(column).tobytes() for column in (rows.uid, rows.now, rows.values, ends))
    body = b"".join((header, *columns, joined))
    return _compressor.compress(body) if len(body) > SMALL else body


def _encode_scores(rows: ServedRows) -> bytes:
    body = rows.score_set.to_bytes(4, "little") + rows.scores.astype("<f4").tobytes()
    return _compressor.compress(body) if len(body) > SMALL else body


def decode(fields: dict[bytes, bytes]) -> ServedRows:
    """The rows of an entry. Raises ValueError for one that is not ours or of another version."""
    try:
        return _scored(_decoded(fields[b"p"], _plain(fields[b"f"])), _plain(fields.get(b"s", b"")))
    except (KeyError, struct.error, zstandard.ZstdError) as error:
        raise ValueError(f"expected the fields of served features: {error!r}") from error


def _scored(rows: ServedRows, body: bytes) -> ServedRows:
    if body:
        rows.score_set = int.from_bytes(body[:4], "little")
        rows.scores = np.frombuffer(body, "<f4", offset=4).reshape(len(rows.names), -1, 2)
    return rows


def _plain(body: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompress(body) if body[:4] == _ZSTD else body


def _decoded(position: bytes, body: bytes) -> ServedRows:
    version, set_, n, k, size = _HEADER.unpack_from(body)
    if version != VERSION:
        raise ValueError(f"expected served features of version {VERSION}, got {version}")
    at = _HEADER.size
    uid = np.frombuffer(body, np.uint64, n, at)
    now = np.frombuffer(body, np.int64, n, at + 8 * n)
    values = np.frombuffer(body, np.float64, n * k, at + 16 * n).reshape(n, k)
    at += 16 * n + 8 * n * k
    ends = np.frombuffer(body, np.uint32, n, at).tolist()
    joined = body[at + 4 * n : at + 4 * n + size]
    whose = [joined[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    return ServedRows(position, set_, uid, now, values, whose)


def bound(client: redis.Redis, partition: int, most: int) -> int:
    """Drops the oldest entries while the stream takes more than `most` bytes; counts and returns the rows dropped."""
    return drop_oldest(client, keys.served(partition), keys.served_dropped(partition), most)


def drop_oldest(client: redis.Redis, stream: str, counter: str, most: int) -> int:
    """Of any stream whose entries say in `n` how many they hold."""
    dropped = 0
    while held(client, stream) > most:
        oldest: Any = client.xrange(stream, count=_PIECE)
        with client.pipeline(transaction=True) as pipe:
            pipe.xdel(stream, *(id_ for id_, _ in oldest))
            rows = sum(int(fields[b"n"]) for _, fields in oldest)
            pipe.incrby(counter, rows)
            pipe.execute()
        dropped += rows
    return dropped


def held(client: redis.Redis, stream: str) -> int:
    """Bytes that a stream takes, about; 0 once it is empty."""
    if not client.xlen(stream):
        return 0
    found: Any = client.memory_usage(stream, samples=0)
    return int(found or 0)
