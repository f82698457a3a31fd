"""The API: what it is made of, and the process that runs it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import sys
import time
from collections.abc import AsyncIterator

import redis
import uvicorn
from starlette.applications import Starlette

from feature_repo import keys
from feature_repo.settings import SettingError, Settings, load
from feature_repo.vocabulary import Vocabulary, VocabularyError
from feature_repo.vocabulary import load as load_vocabulary
from flows.resp import StoreError, pack
from flows.store import Store, connect, create, durability
from serving import alerts, api, docs_page, errors, health, ingest, metrics, openapi, signals, users
from serving.deadlines import Protocol, watch
from serving.front import Front, Requests

log = logging.getLogger("telltale.api")

PATIENCE = 10.0  # seconds to wait for the store at start
GRACE = 1  # seconds that requests under way may take when the process is told to end


OPERATIONS = [
    *ingest.operations,
    *users.operations,
    *signals.operations,
    *alerts.operations,
    *health.operations,
    *metrics.operations,
]


def build(parts: api.Api) -> Front:
    """The whole API, from its parts."""
    described = openapi.document(OPERATIONS)
    app = Starlette(
        routes=[
            *health.routes,
            *metrics.routes,
            *users.routes,
            *signals.routes,
            *alerts.routes,
            *openapi.routes(described),
            *docs_page.routes(described),
        ],
        exception_handlers=errors.handlers,
        lifespan=lifespan,
    )
    app.state.api, app.state.requests = parts, Requests()
    app.state.scorer = users.Scorer(parts.settings, parts.vocabulary)
    app.state.signals = signals.Signals(parts)
    return Front(app, ingest.doors(parts), parts.auth, app.state.requests)


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Opens the store for appends; keeps the garbage collector off all that stays."""
    parts: api.Api = app.state.api
    await parts.appender.start()
    with contextlib.suppress(StoreError):
        (names,) = await parts.client.call(pack("HKEYS", keys.UNKNOWN))
        parts.intake.list_unknown(name.decode() for name in names)
    async with alerts.running(app, parts):
        gc.collect()
        gc.freeze()
        yield
        gc.unfreeze()
    await parts.appender.stop()
    parts.client.close()


def opened(settings: Settings) -> Store:
    """The store, waited for, and created if need be. Raises StoreError."""
    with contextlib.closing(_reached(settings, time.monotonic() + PATIENCE)) as client:
        for warning in durability(client):
            log.warning("%s", warning)
        return create(client, settings)


def _reached(settings: Settings, deadline: float) -> redis.Redis:
    while True:
        try:
            return connect(settings)
        except StoreError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


async def serve(settings: Settings, store: Store, vocabulary: Vocabulary) -> None:
    """Answers until SIGTERM or SIGINT."""
    config = uvicorn.Config(
        build(api.made(settings, store, vocabulary)),
        host=settings.host,
        port=settings.port,
        http=Protocol,
        ws="none",
        lifespan="on",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        log_level="warning",
        backlog=4096,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=GRACE,
    )
    server = uvicorn.Server(config)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)  # uvicorn raises once more what it has obeyed
    slow = asyncio.create_task(watch(server.server_state.connections))  # type: ignore[arg-type]  # all are Protocol
    await server.serve()
    slow.cancel()


def main() -> int:
    """Runs the API; 2 with one clear line when it cannot start."""
    logging.basicConfig(format="%(asctime)s %(name)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        settings = load()
        vocabulary = load_vocabulary(settings.feature_repo)
        store = opened(settings)
    except (SettingError, VocabularyError, StoreError) as error:
        print(f"telltale: {error}", file=sys.stderr)  # noqa: T201 # the last word of a process that cannot start
        return 2
    import uvloop

    uvloop.run(serve(settings, store, vocabulary))
    return 0


if __name__ == "__main__":
    sys.exit(main())
