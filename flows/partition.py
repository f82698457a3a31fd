"""Who owns a partition, and up to which entry its state stands.

An owner holds the lease and has raised the epoch. Each of its writes is a transaction on a connection that
watches the epoch: once somebody else has raised it, the write fails whole. So a worker that was stalled
and wakes late changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import redis

from feature_repo import keys
from flows import redo
from flows.resp import Connection, StoreError, pack

LEASE_MS = 5_000


class Fenced(StoreError):
    """Somebody else owns the partition now; nothing was written."""


class LogBehind(StoreError):
    """The log ends before the position that state stands at: the store was emptied or restored older."""


class Taken(StoreError):
    """Another live worker holds the lease."""


class Partition:
    """One partition that this worker owns."""

    def __init__(self, number: int, client: redis.Redis, connection: Connection, owner: str) -> None:
        self.number = number
        self.owner = owner
        self._client = client
        self.connection = connection
        self.epoch = _take(client, number, owner)
        for command in self._arm():
            connection.send(command)
        self._armed()
        self._finish_flush()
        self.position: bytes = client.get(keys.position(number)) or b"0-0"
        check_log(client, number, self.position)

    def _finish_flush(self) -> None:
        """What an earlier owner wrote down and did not bring to its end."""
        left = self._client.get(keys.redo(self.number))
        if left:
            self.send(*redo.completed(redo.decode(left), self._client))()

    def _arm(self) -> tuple[bytes, bytes]:
        key = keys.epoch(self.number)
        return pack("WATCH", key), pack("GET", key)

    def _armed(self) -> None:
        """Read the replies to `_arm`. Raises Fenced."""
        self.connection.read()
        current = self.connection.read()
        if current != b"%d" % self.epoch:
            raise Fenced(f"partition {self.number}: expected epoch {self.epoch}, found {current!r}")

    def send(self, commands: bytes, count: int) -> Callable[[], list[Any]]:
        """Start one transaction of `count` packed commands; the function returned waits for its replies.

        It raises Fenced when the partition has another owner (then nothing was written), StoreError
        when a command was refused or the connection broke (then what was written is not known).
        """
        self.connection.send(b"".join((_MULTI, commands, _EXEC, *self._arm())))
        return lambda: self._finish(count)

    def _finish(self, count: int) -> list[Any]:
        queued = [self._read_error() for _ in range(count + 1)]
        replies = self._read_error()
        if refused := next((reply for reply in queued if isinstance(reply, StoreError)), None):
            raise refused
        if replies is None:
            raise Fenced(f"partition {self.number}: epoch {self.epoch} is over")
        if isinstance(replies, StoreError):
            raise replies
        if refused := next((reply for reply in replies if isinstance(reply, StoreError)), None):
            raise refused
        self._armed()
        return list(replies)

    def _read_error(self) -> Any:
        try:
            return self.connection.read()
        except StoreError as error:
            if type(error).__name__ == "Lost":
                raise
            return error

    def renew(self) -> None:
        """Keep the lease. Raises Fenced when it went to somebody else."""
        key = keys.lease(self.number)
        if not self._client.set(key, self.owner, px=LEASE_MS, nx=True):
            holder = self._client.get(key)
            if holder != self.owner.encode():
                raise Fenced(f"partition {self.number}: the lease is now {holder!r}'s")
            self._client.pexpire(key, LEASE_MS)

    def release(self) -> None:
        """Give the lease back, so that the next owner need not wait for it to expire."""
        if self._client.get(keys.lease(self.number)) == self.owner.encode():
            self._client.delete(keys.lease(self.number))


_MULTI, _EXEC = pack("MULTI"), pack("EXEC")


def _take(client: redis.Redis, number: int, owner: str) -> int:
    key = keys.lease(number)
    if not client.set(key, owner, px=LEASE_MS, nx=True) and client.get(key) != owner.encode():
        raise Taken(f"partition {number} is held by {client.get(key)!r} for up to {LEASE_MS} ms more")
    client.set(key, owner, px=LEASE_MS)
    return int(client.incr(keys.epoch(number)))


def check_log(client: redis.Redis, number: int, position: bytes) -> None:
    """Raises LogBehind when the log's last id is older than the committed position."""
    last = b"0-0"
    if client.exists(keys.log(number)):
        last = client.xinfo_stream(keys.log(number))["last-generated-id"]
    if entry_id(last) < entry_id(position):
        raise LogBehind(
            f"partition {number}: state stands at {position.decode()}, the log ends at {last.decode()}: "
            "the log was emptied or restored older; `telltale doctor` says what to do"
        )


class EntryId(msgspec.Struct, frozen=True, order=True):
    ms: int
    seq: int


def entry_id(text: bytes) -> EntryId:
    ms, _, seq = text.partition(b"-")
    return EntryId(int(ms), int(seq or 0))
