"""A log filled ahead of time: entries as the door appends them, made with numpy."""

from __future__ import annotations

import numpy as np
import redis
import xxhash

from feature_repo import keys
from feature_repo.declare import Array
from feature_repo.vocabulary import Vocabulary
from flows.entry import _HEADER, VERSION, pack_raw
from flows.store import Store
from flows.streams import APPEND_AT

BATCH = 500  # events an entry, as in batches of the door
RAW = (
    b'{"type":"track","event":"Document Viewed","userId":"user-%07d","messageId":"ajs-next-%016x",'
    b'"timestamp":"2026-03-01T10:11:12.%03dZ","properties":{"document_id":"doc-%05d","topic":"refinance"},'
    b'"context":{"library":{"name":"analytics-python","version":"2.3.4"}}}'
)


def zipf(users: int, exponent: float, n: int, rng: np.random.Generator) -> Array:
    """n people of `users`, the k-th most active drawn in proportion to k^-exponent: int64 (n,), 0-based."""
    weights = np.arange(1, users + 1) ** -exponent
    return np.searchsorted(np.cumsum(weights) / weights.sum(), rng.random(n))


class Filler:
    """Fills a log-clock store with entries of `BATCH` events of known people."""

    def __init__(self, client: redis.Redis, store: Store, vocabulary: Vocabulary, users: int, seed: int = 1) -> None:
        self.client, self.store, self.vocabulary = client, store, vocabulary
        self.rng = np.random.default_rng(seed)
        names = [b"bench/user-%07d" % i for i in range(users)]
        self.uids = np.array([xxhash.xxh3_64_intdigest(name, store.seed) for name in names], np.uint64)
        self.names = np.frombuffer(b"".join(names), np.uint8).reshape(users, -1)
        codes = [i for i, c in enumerate(vocabulary.codes) if vocabulary.event[c.event].role == "behaviour"]
        self.codes = np.array(codes, np.uint16)
        self._raw = [self._raw_field() for _ in range(32)]
        self._message = 0

    def fill(self, who: Array, start_ms: int, end_ms: int) -> None:
        """Append events of these people (int64 (n,)), spread evenly over the time span of the log."""
        partitions = (self.uids[who] % np.uint64(self.store.partitions)).astype(np.int64)
        at = np.linspace(start_ms, end_ms, len(who)).astype(np.int64)
        for p in range(self.store.partitions):
            mine = np.flatnonzero(partitions == p)
            with self.client.pipeline(transaction=False) as pipe:
                for i, low in enumerate(range(0, len(mine), BATCH)):
                    part = mine[low : low + BATCH]
                    entry, raw = self._entry(who[part], at[part]), self._raw[i % len(self._raw)]
                    pipe.eval(APPEND_AT, 1, keys.log(p), int(at[part[-1]]), "e", entry, "r", raw)
                    if i % 200 == 199:
                        pipe.execute()
                pipe.hincrby(keys.counts(p), "accepted", len(mine))
                pipe.execute()

    def _entry(self, who: Array, at: Array) -> bytes:
        n = len(who)
        names = self.names[who]
        message = np.arange(self._message, self._message + n, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        self._message += n
        return b"".join(
            (
                _HEADER.pack(VERSION, 0, 0, self.vocabulary.fingerprint, n, 0, 0, names.size, 0),
                self.uids[who].tobytes(),
                (message | np.uint64(2)).tobytes(),
                at.tobytes(),
                self.rng.integers(1_000, 60_000, n).tobytes(),
                (np.arange(1, n + 1, dtype=np.uint32) * np.uint32(names.shape[1])).tobytes(),
                self.codes[self.rng.integers(0, len(self.codes), n)].tobytes(),
                names.tobytes(),
            )
        )

    def _raw_field(self) -> bytes:
        numbers = self.rng.integers(0, 1 << 30, (BATCH, 4)).tolist()
        return pack_raw([RAW % (a % 10**7, b, c % 1000, d % 10**5) for a, b, c, d in numbers])
