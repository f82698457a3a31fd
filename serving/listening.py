"""A process that answers HTTP: it waits for the store, listens, and ends on a signal."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import sys
import time
from collections.abc import Awaitable, Callable

import redis
import uvicorn

from feature_repo.settings import SettingError, Settings, load
from feature_repo.vocabulary import Vocabulary, VocabularyError
from feature_repo.vocabulary import load as load_vocabulary
from flows.losses import WentBack, created, once_held
from flows.resp import StoreError
from flows.store import Store, connect, durability
from serving.deadlines import watch
from serving.front import Front
from serving.shortcut import Quick, Shortcuts, protocol

log = logging.getLogger("telltale.api")

PATIENCE = 10.0  # seconds to wait for the store at start
GRACE = 1  # seconds that requests under way may take when the process is told to end
LINE = "%(asctime)s %(name)s %(levelname)s %(message)s"  # of the log
YOUNG = 20_000  # objects more than before from which the garbage collector looks at the young ones
Serve = Callable[[Settings, Store, Vocabulary], Awaitable[None]]


def opened(settings: Settings) -> Store:
    """The store, waited for, and created if need be; where it was emptied, as it was. Raises StoreError."""
    with contextlib.closing(_reached(settings, time.monotonic() + PATIENCE)) as client:
        for warning in durability(client):
            log.warning("%s", warning)
        try:
            return created(client, settings)
        except WentBack as error:
            log.error("%s", error)  # noqa: TRY400  # it is /readyz that has to say it
            store = once_held(settings)
            if store is None:
                raise
            return store


def _reached(settings: Settings, deadline: float) -> redis.Redis:
    while True:
        try:
            return connect(settings)
        except StoreError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def keep_collector_off() -> None:
    """All that stands by now stays: the garbage collector need not look at it again, and pauses nobody."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, 20, 100)


async def listen(settings: Settings, front: Front, quick: dict[str, Quick]) -> None:
    """Answers until SIGTERM or SIGINT. `quick`: the doors, by path, that are answered past ASGI."""
    config = uvicorn.Config(
        front,
        host=settings.host,
        port=settings.port,
        http=protocol(Shortcuts(quick, front.requests)),
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


def run(serve: Serve) -> int:
    """Runs `serve` to its end; 2 with one clear line when it cannot start."""
    logging.basicConfig(format=LINE, stream=sys.stderr)
    try:
        settings = load()
        vocabulary = load_vocabulary(settings.feature_repo)
        store = opened(settings)
    except (SettingError, VocabularyError, StoreError) as error:
        print(f"telltale: {error}", file=sys.stderr)  # noqa: T201 # the last word of a process that cannot start
        return 2
    import uvloop

    uvloop.run(serve(settings, store, vocabulary))  # type: ignore[arg-type]  # a coroutine
    return 0
