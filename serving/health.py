"""Whether the process is up (/healthz), and whether the whole path is (/readyz)."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from feature_repo import keys
from flows import losses
from flows.members import engines
from flows.partition import entry_id
from flows.resp import StoreError, pack
from serving import api
from serving.errors import json_response, unavailable
from serving.messages import Check
from serving.openapi import Operation

# Ids of the newest entry ever, and of the oldest one behind a position; entries themselves stay in the store.
LOG_ENDS = """
local newest, waiting = '0-0', false
if redis.call('EXISTS', KEYS[1]) == 1 then
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then newest = info[i + 1] end
  end
  local found = redis.call('XRANGE', KEYS[1], '(' .. (redis.call('GET', KEYS[2]) or '0-0'), '+', 'COUNT', 1)
  if found[1] then waiting = found[1][1] end
end
return {newest, waiting}
"""


def log_ends(partition: int) -> bytes:
    """Command: [id of the log's newest entry, id of the oldest one that the engine has not worked, or nil]."""
    return pack("EVAL", LOG_ENDS, 2, keys.log(partition), keys.position(partition))


async def healthz(request: Request) -> Response:
    """Says that the process answers."""
    return json_response(Check())


async def readyz(request: Request) -> Response:
    """Says what is in the way of events becoming features; 503 when anything is."""
    try:
        problems = await _problems(api.of(request))
    except StoreError as error:
        problems = [f"the store is not reachable: {error}"]
    if problems:
        raise unavailable("; ".join(problems), problems=problems)
    return json_response(Check())


async def _problems(parts: api.Api) -> list[str]:
    partitions = range(parts.store.partitions)
    ends = await parts.client.call(*(log_ends(p) for p in partitions))
    positions = await parts.client.call(*(pack("GET", keys.position(p)) for p in partitions))
    found = [parts.appender.refusal] if parts.appender.refusal else []
    found += [problem for problem in await _losses(parts) if problem not in found]
    found += [
        f"the log of partition {p} ends at {newest.decode()}, before the position {position.decode()} that state has"
        for p, ((newest, _), position) in enumerate(zip(ends, positions, strict=True))
        if position and entry_id(newest) < entry_id(position)
    ]
    return [*found, *await _engine_problems(parts)]


async def _losses(parts: api.Api) -> list[str]:
    """What of the accepted events is gone, until somebody has accepted it."""
    now = losses.answered((await parts.client.call(losses.packed(parts.store)))[0])
    back = losses.went_back(parts.store, parts.appender.mark.ends, now)
    return [*([back] if back else []), *losses.unknown(now)]


async def _engine_problems(parts: api.Api) -> list[str]:
    partitions = range(parts.store.partitions)
    owners, told, (seconds, micros) = await parts.client.call(
        pack("MGET", *map(keys.lease, partitions)), pack("HGETALL", keys.ENGINES), pack("TIME")
    )
    idle = [str(p) for p in partitions if not owners[p]]
    found = [f"no engine works partitions {', '.join(idle)}"] if idle else []
    for name, said in engines(dict(zip(told[::2], told[1::2], strict=True))).items():
        now = int(seconds) * 1000 + int(micros) // 1000
        if not said.lives(now) and (idle or name.encode() in owners):  # of others the partitions were taken over
            found.append(f"the engine {name} has not been heard of for {(now - said.at) / 1000:.0f} s")
    return found


routes = [Route("/healthz", healthz), Route("/readyz", readyz)]
operations = [
    Operation(path="/healthz", summary="Whether the process is up", tag="Operations", gives=Check, open=True),
    Operation(
        path="/readyz",
        summary="Whether events become features",
        tag="Operations",
        gives=Check,
        errors={503: "not ready; `problems` says why"},
    ),
]
