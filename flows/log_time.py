"""The log's time: the store's clock, or, in a store that takes time from events, that of the newest entry."""

from __future__ import annotations

import redis

from feature_repo import keys
from flows.store import Store

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


def now_ms(client: redis.Redis, store: Store) -> int:
    """Milliseconds since 1970; 0 in an empty log that takes time from events."""
    if store.clock == "wall":
        seconds, micros = client.time()
        return int(seconds) * 1000 + int(micros) // 1000
    logs = [keys.log(p) for p in range(store.partitions)]
    return int(client.eval(NEWEST, len(logs), *logs))
