"""The write: all that a partition's position means, together or not at all.

States, features in Feast's bytes, counts, message ids, alerts and the position are one transaction; where there are
too many people for one, see `redo.py`. They are built for a whole batch from byte templates.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any

import msgspec
import numpy as np
import xxhash

from feature_repo import keys
from feature_repo.declare import Array
from feature_repo.layout import DOUBLE, PROJECT, double, entity_key, field, timestamp, timestamp_field
from feature_repo.vocabulary import Vocabulary
from flows.flush import Flush
from flows.partition import Partition
from flows.resp import StoreError

_FIELD = len(b"$4\r\n....\r\n")  # before a feature's value


class FeatureBytes:
    """`HSET` of the features that changed, in Feast's layout, and of `private` fields that stand beside them."""

    def __init__(self, vocabulary: Vocabulary, private: Sequence[bytes] = ()) -> None:
        heads = [b"$4\r\n%b\r\n$9\r\n%b" % (field(vocabulary.view, f.name), DOUBLE) for f in vocabulary.features]
        rows = [head + bytes(8) + b"\r\n" for head in heads]
        self._template = np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), -1)
        self._width = self._template.shape[1]
        stamp = timestamp_field(vocabulary.view)
        self._stamp = b"$%d\r\n%b\r\n" % (len(stamp), stamp)
        pairs = [(field(vocabulary.view, f.name), double(f.default)) for f in vocabulary.features]
        blank = [(name, b"") for name in private]
        self._defaults = [x for pair in (*pairs, (stamp, timestamp(0)), *blank) for x in pair]
        self._private = len(private)
        self.defaults_key = keys.defaults(xxhash.xxh32_intdigest(b"".join(self._defaults)))
        self._template_key = b"$%d\r\n%b\r\n" % (len(self.defaults_key), self.defaults_key.encode())
        key = entity_key(vocabulary.join_key, b"")
        cut = len(key) - len(PROJECT) - 4
        self._key = (key[:cut], key[cut + 4 :])

    def commands(
        self, names: list[bytes], now: Array, values: Array, changed: Array, beside: list[bytes]
    ) -> list[bytes]:
        """One packed HSET a person. values float64 (n, features; NaN = null), changed bool alike, now ms (n,).

        `beside`: of each, all private fields packed, or none.
        """
        person, feature = np.nonzero(changed)
        fields = self._template[feature]
        fields[:, -10:-2] = values[person, feature].view(np.uint8).reshape(-1, 8)
        data = memoryview(fields.tobytes())
        counts = changed.sum(1).tolist()
        stamps = {ms: self._stamped(ms) for ms in set(now.tolist())}
        befores = {length: self._before(length) for length in set(map(len, names))}
        begins = [_begin(count) for count in range(values.shape[1] + self._private + 1)]
        after, private, width = self._key[1] + b"\r\n", self._private, self._width
        out, start = [], 0
        for name, ms, count, more in zip(names, now.tolist(), counts, beside, strict=True):
            end = start + count * width
            begin = begins[count + private if more else count]
            out.append(b"".join((begin, befores[len(name)], name, after, data[start:end], stamps[ms], more)))
            start = end
        nulls = np.isnan(values)
        for i in np.flatnonzero(nulls.any(axis=1)).tolist() if nulls.any() else ():
            head = self._head(names[i], int(changed[i].sum()) + (self._private if beside[i] else 0))
            out[i] = b"".join((head, *self._with_nulls(values[i], changed[i]), stamps[int(now[i])], beside[i]))
        return out

    def _with_nulls(self, values: Array, changed: Array) -> list[bytes]:
        """The fields of one person, some of whose features have no value."""
        fields = [self._template[i].tobytes() for i in range(len(values))]
        parts = list[bytes]()
        for i in np.flatnonzero(changed).tolist():
            known = fields[i][:-10] + values[i].tobytes() + b"\r\n"
            parts.append(fields[i][:_FIELD] + b"$0\r\n\r\n" if np.isnan(values[i]) else known)
        return parts

    def copy(self, name: bytes) -> bytes:
        """A packed COPY of the defaults to somebody new: what they share with nobody is then written over it."""
        key = self.key(name)
        return b"*3\r\n$4\r\nCOPY\r\n%b$%d\r\n%b\r\n" % (self._template_key, len(key), key)

    def key(self, name: bytes) -> bytes:
        """Redis key of a person's features."""
        before, after = self._key  # an entity key but for the value and its length
        return b"".join((before, len(name).to_bytes(4, "little"), name, after))

    def defaults(self) -> list[bytes | str]:
        """The command that writes what `copy` copies; its key names these features and defaults."""
        return ["HSET", self.defaults_key, *self._defaults]

    def _before(self, length: int) -> bytes:
        """What stands before a name of this length where its key is an argument."""
        before, after = self._key
        return b"$%d\r\n%b%b" % (len(before) + 4 + length + len(after), before, length.to_bytes(4, "little"))

    def _head(self, name: bytes, count: int) -> bytes:
        return b"".join((_begin(count), self._before(len(name)), name, self._key[1], b"\r\n"))

    def _stamped(self, ms: int) -> bytes:
        value = timestamp(ms)
        return b"%b$%d\r\n%b\r\n" % (self._stamp, len(value), value)


def _begin(count: int) -> bytes:
    """The begin of an HSET of so many features and private fields, and the timestamp."""
    return b"*%d\r\n$4\r\nHSET\r\n" % (4 + 2 * count)


def hot_states(head: bytes, uids: Array, rows: Array) -> Array:
    """Key and hot value of n people as they stand in an MSET: uids uint64 (n,), rows int64 (n, hot) -> uint8 (n, .)."""
    n, length = len(uids), len(head) + rows.shape[1] * 8
    before = b"$%d\r\n%b" % (len(keys.HOT) + 8, keys.HOT)
    between = b"\r\n$%d\r\n%b" % (length, head)
    parts = (_repeat(before, n), _bytes(uids), _repeat(between, n), _bytes(rows), _repeat(b"\r\n", n))
    return np.concatenate(parts, axis=1)


def mset(pairs: Array) -> bytes:
    """One packed MSET of some of `hot_states`."""
    return b"*%d\r\n$4\r\nMSET\r\n" % (1 + 2 * len(pairs)) + pairs.tobytes()


def _repeat(data: bytes, n: int) -> Array:
    return np.broadcast_to(np.frombuffer(data, np.uint8), (n, len(data)))


def _bytes(values: Array) -> Array:
    width = values.itemsize * values[:1].size  # told, since -1 cannot be worked out of no rows
    return np.ascontiguousarray(values).view(np.uint8).reshape(len(values), width)


GROUPS = 2  # submitted and not yet done, at most


class Job(msgspec.Struct):
    """One partition's flush; `done` gets the replies to each of its transactions."""

    partition: Partition
    flush: Flush
    done: Callable[[list[list[Any]]], None]


Replies = list[tuple[Job, list[list[Any]]]]


class Writer:
    """Sends groups of transactions from a thread of its own.

    One group is under way and one may wait behind it: while Redis works, the engine counts and builds the
    next, and what changes meanwhile is written once.
    """

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[list[Job] | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Replies | StoreError] = queue.SimpleQueue()
        self._under_way = 0
        self._thread = threading.Thread(target=self._work, name="writer", daemon=True)
        self._thread.start()

    def submit(self, jobs: list[Job]) -> None:
        """Start a group; only when `ready`."""
        self._under_way += 1
        self._jobs.put(jobs)

    def ready(self, timeout: float = 0.0) -> bool:
        """Whether another group may be submitted, waiting at most `timeout` seconds for it.

        Hands out the replies that have come. Raises the error of a group that failed.
        """
        while self._under_way and self._take(0.0):
            pass
        if self._under_way == GROUPS:
            self._take(timeout)
        return self._under_way < GROUPS

    def idle(self) -> bool:
        """Whether all that was submitted is written. Raises the error of a group that failed."""
        return self.ready() and not self._under_way

    def settle(self) -> None:
        """Wait until everything submitted is written. Raises the error of a group that failed."""
        while self._under_way:
            self._take(1.0)

    def _take(self, timeout: float) -> bool:
        """Hand out the replies of one group."""
        try:
            done = self._done.get(timeout > 0, timeout or None)
        except queue.Empty:
            return False
        if isinstance(done, StoreError):
            raise done
        self._under_way -= 1
        for job, replies in done:
            job.done(replies)
        return True

    def close(self) -> None:
        self._jobs.put(None)
        self._thread.join(5)

    def _work(self) -> None:
        while (jobs := self._jobs.get()) is not None:
            try:
                self._done.put(_written(jobs))
            except StoreError as error:
                self._done.put(error)
                return


def _written(jobs: list[Job]) -> Replies:
    """One transaction of each, then the next of each: so they share an fsync, and reads get between."""
    replies: Replies = [(job, []) for job in jobs]
    for turn in zip_longest(*(job.flush.transactions() for job in jobs)):
        going = [(job, found, step) for (job, found), step in zip(replies, turn, strict=True) if step]
        waiting = [(found, job.partition.send(step.joined(), step.count)) for job, found, step in going]
        for found, finish in waiting:
            found.append(finish())
    return replies
