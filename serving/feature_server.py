"""The feature doors alone: a process of its own that reads and writes features as Feast's feature server does."""

from __future__ import annotations

import contextlib
import logging
import sys

import uvloop
from starlette.types import Receive, Scope, Send

from feature_repo.settings import Settings
from feature_repo.vocabulary import Vocabulary, load
from flows.losses import created
from flows.store import Store, connect, embedded
from serving import api, feast_read, feast_write, front, quick_door, write_keys
from serving.api import Api
from serving.errors import ApiError, reply_error
from serving.front import Front, Requests
from serving.listening import LINE, keep_collector_off, listen, run
from serving.port import claim_port
from serving.shortcut import Quick


def doors(parts: Api) -> dict[str, front.Door]:
    """Path -> what answers there."""
    return feast_read.doors(parts.auth, parts.reader) | feast_write.doors(parts)


def quick(parts: Api) -> dict[str, Quick]:
    """Those of them that are answered past ASGI."""
    return {feast_read.PATH: quick_door.quick(parts.auth, parts.reader)}


class NothingElse:
    """The rest of an API that has doors only: their life span, and 404."""

    def __init__(self, parts: Api) -> None:
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            where = f"{scope['method']} {scope['path'][:200]}"
            await reply_error(send, ApiError(404, f"there is no {where}: only the feature doors are served", "path"))
            return
        while (await receive())["type"] == "lifespan.startup":
            await self._parts.appender.start()
            keep_collector_off()
            await send({"type": "lifespan.startup.complete"})
        await self._parts.appender.stop()
        self._parts.client.close()
        self._parts.reader.pipeline.close()
        await send({"type": "lifespan.shutdown.complete"})


async def serve(settings: Settings, store: Store, vocabulary: Vocabulary) -> None:
    """Answers until SIGTERM or SIGINT."""
    parts = api.made(settings, store, vocabulary)
    known = doors(parts) | {"/healthz": feast_read.health}  # what asks the whole API may ask us too
    await listen(settings, Front(NothingElse(parts), known, parts.auth, Requests()), quick(parts))


def alone(settings: Settings) -> None:
    """Answers until SIGTERM or SIGINT, on the store that runs, else on one of our own.

    Raises Complaint, StoreError, VocabularyError.
    """
    logging.basicConfig(format=LINE, stream=sys.stderr)
    vocabulary = load(settings.feature_repo)
    claim_port(settings)
    server = None if settings.redis_url else embedded(settings.home)
    try:
        with contextlib.closing(connect(settings)) as client:
            store = created(client, settings)
            key, _ = write_keys.first(client)
        print(f"features at {settings.host}:{settings.port}; a Feast client reads and writes them with", flush=True)  # noqa: T201
        print(f"online_store: {{type: remote, path: 'http://{key}:@{settings.host}:{settings.port}'}}", flush=True)  # noqa: T201
        uvloop.run(serve(settings, store, vocabulary))
    finally:
        if server is not None:
            server.stop()


def main() -> int:
    """Runs the doors; 2 with one clear line when they cannot start."""
    return run(serve)


if __name__ == "__main__":
    sys.exit(main())
