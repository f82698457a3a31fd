"""What time it is: the wall's, or, in a store that takes time from events, that of the newest entry."""

from __future__ import annotations

import time
from typing import Any

from feature_repo import keys
from flows.log_time import NEWEST
from flows.resp import pack
from flows.store import Store
from serving.connection import Client

FRESH = 0.05  # seconds for which the log's time once read is believed


class LogClock:
    """`question` is a command to be sent first, where `now_us` would be too old; its reply goes to `hear`."""

    def __init__(self, store: Store) -> None:
        self._wall = store.clock == "wall"
        logs = [keys.log(p) for p in range(store.partitions)]
        self._ask = pack("EVAL", NEWEST, len(logs), *logs)
        self._heard, self._now_us = 0.0, 0

    def question(self) -> bytes:
        """Empty where nothing has to be asked."""
        if self._wall or time.monotonic() - self._heard < FRESH:
            return b""
        return self._ask

    def hear(self, reply: Any) -> None:
        self._heard, self._now_us = time.monotonic(), int(reply) * 1000

    def now_us(self) -> int:
        """Microseconds since 1970; 0 in an empty log."""
        return time.time_ns() // 1000 if self._wall else self._now_us

    async def now_ms(self, client: Client) -> int:
        """Milliseconds since 1970, asked for where need be. Raises StoreError."""
        if question := self.question():
            self.hear((await client.call(question))[0])
        return self.now_us() // 1000
