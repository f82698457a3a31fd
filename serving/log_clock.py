"""What time it is: the wall's, or, in a store that takes time from events, that of the newest entry."""

from __future__ import annotations

import time
from typing import Any

from feature_repo import keys
from flows.resp import pack
from flows.store import Store

FRESH = 0.05  # seconds for which the log's time once read is believed

# Milliseconds of the newest entry ever of any of the logs.
NEWEST = """
local newest = 0
for _, log in ipairs(KEYS) do
  if redis.call('EXISTS', log) == 1 then
    local info = redis.call('XINFO', 'STREAM', log)
    for i = 1, #info, 2 do
      if info[i] == 'last-generated-id' then
        newest = math.max(newest, tonumber(string.match(info[i + 1], '^%d+')))
      end
    end
  end
end
return string.format('%.0f', newest)
"""


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
