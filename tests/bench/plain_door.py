"""The peer of `ingest`: what one would write in an afternoon. Starlette, redis-py, one XADD a request, the same fsync.

`python -m tests.bench.plain_door PORT` with the settings of the store in the environment. It checks nothing, knows no
keys and reports nothing: it only stores.
"""

from __future__ import annotations

import sys

import redis.asyncio
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from feature_repo.settings import load
from flows.store import address


def app() -> Starlette:
    client = redis.asyncio.Redis(unix_socket_path=address(load()).path)

    async def one(request: Request) -> Response:
        event = await request.json()
        await client.xadd("plain:log", {"user": event["userId"], "event": event["event"], "raw": await request.body()})
        return JSONResponse({"success": True})

    async def healthz(request: Request) -> Response:
        return JSONResponse({})

    return Starlette(routes=[Route("/v1/track", one, methods=["POST"]), Route("/healthz", healthz)])


if __name__ == "__main__":
    uvicorn.run(app(), port=int(sys.argv[1]), access_log=False, log_level="warning")
