"""What the log said, entry by entry, read beside the engine and kept when the log is trimmed: the oracle's input."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import Any, cast

import msgspec
import redis

from feature_repo import keys
from feature_repo.settings import Settings
from flows.entry import Kind, decode, unpack_raw
from flows.resp import StoreError
from flows.running import connected  # which tries once: who lags while the log is trimmed misses entries
from tests.faults.calls import Call

PAUSE_S = 0.1
PIECE = 2_000


class Logged(msgspec.Struct, frozen=True):
    """One call as it was stored: in which partition, at which time of the log, in which entry."""

    partition: int
    now: int
    entry: bytes
    call: Call


class Tap(threading.Thread):
    """Reads all partitions until told to end, over deaths of the store."""

    def __init__(self, settings: Settings, partitions: int) -> None:
        super().__init__(daemon=True, name="tap")
        self._settings = settings
        self._last: dict[str | bytes, Any] = {keys.log(p): b"0-0" for p in range(partitions)}
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._logged: list[Logged] = []

    def run(self) -> None:
        while not self._ending.is_set():
            try:
                with closing(connected(self._settings)) as client:
                    while not self._ending.wait(PAUSE_S):
                        self.read(client)
            except (StoreError, redis.RedisError):
                self._ending.wait(PAUSE_S)

    def read(self, client: redis.Redis) -> None:
        """All that has come."""
        with self._lock:
            while found := cast(list[Any], client.xread(self._last, PIECE)):
                for name, entries in found:
                    partition = int(name.partition(b"{")[2].partition(b"}")[0])
                    for entry, fields in entries:
                        self._take(partition, entry, fields)
                    self._last[name.decode()] = entries[-1][0]

    def logged(self) -> list[Logged]:
        """In each partition's own order."""
        with self._lock:
            return list(self._logged)

    def end(self) -> None:
        self._ending.set()
        self.join(5)

    def _take(self, partition: int, entry: bytes, fields: dict[bytes, bytes]) -> None:
        if decode(fields[b"e"]).kind != Kind.EVENTS:
            return
        calls = (msgspec.json.decode(raw) for raw in unpack_raw(fields[b"r"]) if raw)
        now = int(entry.partition(b"-")[0])
        self._logged += [Logged(partition, now, entry, call) for call in calls]
