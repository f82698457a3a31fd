"""The feature doors alone: a process of its own that reads and writes features as Feast's feature server does."""

from __future__ import annotations

import sys

from starlette.types import Receive, Scope, Send

from feature_repo.settings import Settings
from feature_repo.vocabulary import Vocabulary
from flows.store import Store
from serving import api, feast_read, feast_write, front
from serving.api import Api
from serving.errors import ApiError, reply_error
from serving.front import Front, Requests
from serving.listening import keep_collector_off, listen, run
from serving.shortcut import Quick


def doors(parts: Api) -> dict[str, front.Door]:
    """Path -> what answers there."""
    return feast_read.doors(parts.auth, parts.reader) | feast_write.doors(parts)


def quick(parts: Api) -> dict[str, Quick]:
    """Those of them that are answered past ASGI."""
    return {feast_read.PATH: feast_read.quick(parts.auth, parts.reader)}


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


def main() -> int:
    """Runs the doors; 2 with one clear line when they cannot start."""
    return run(serve)


if __name__ == "__main__":
    sys.exit(main())
