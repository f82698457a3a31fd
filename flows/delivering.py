"""The process that delivers alerts, `python -m flows.delivering`: one at a time, whichever holds the lease.

What a kill interrupts is sent again by the next life, with the same id and the same bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import sqlalchemy as sa
import uvloop

from feature_repo import settings
from feature_repo.networks import networks
from feature_repo.settings import SettingError, Settings
from flows import post
from flows.alert_store import AlertStore, open_alerts
from flows.channel import Channels, Plan
from flows.database import SQL_DOWN
from flows.delivery import PAUSE_S, Delivery, Onward
from flows.delivery_link import Link
from flows.delivery_sender import HeldError, Sender, SupersededError
from flows.delivery_upkeep import upkeep
from flows.everywhere import Everywhere
from flows.outbox import Outbox
from flows.routing import Routing
from flows.web import Web
from flows.webhook_channel import WebhookChannel

log = logging.getLogger("telltale.delivery")

LOOKUPS = 64  # names looked up at once: one that hangs keeps no other waiting
GRACE_S = 1.0  # that attempts under way may take when the process is told to end
WAIT_S = 1.0  # between two looks whether the lease is free


def channels(given: Settings, web: Web) -> Channels:
    """Every way to tell somebody: a line each."""
    return {channel.name: channel for channel in (WebhookChannel(web), *post.channels(given, web))}


def plan(given: Settings, engine: sa.Engine) -> Plan:
    """Who is told of what."""
    return Routing(Everywhere(), post.writer(given, engine))


async def deliver(given: Settings, engine: sa.Engine) -> None:
    """Until SIGTERM or SIGINT. Raises SupersededError when another process has taken over, SettingError."""
    post.check(given)
    routes = plan(given, engine)
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()
    loop.set_default_executor(ThreadPoolExecutor(LOOKUPS, "names"))
    web, link = Web(networks(given.webhook_allow)), Link(given)
    sender = Sender(f"{socket.gethostname()}:{given.home}")
    outbox = Outbox(engine, routes, channels(given, web), sender)
    delivery = Delivery(outbox, clock=Onward(), log_clock=link.log_ms, on_moved=link.moved)

    def stop() -> None:
        stopping.set()
        delivery.bell.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        if await _taken_over(delivery, stopping):
            link.start(delivery, loop)
            async with _beside(upkeep(given, engine)):
                await delivery.run(stopping)
                await delivery.stop(GRACE_S)
    finally:
        link.stop()
        await web.close()


async def _taken_over(delivery: Delivery, stopping: asyncio.Event) -> bool:
    """Waits for its turn; False when told to stop before."""
    while not stopping.is_set():
        try:
            await delivery.begin()
        except HeldError as error:
            log.warning("waiting: %s", error)
            await asyncio.sleep(WAIT_S)
        except SQL_DOWN as error:
            log.warning("waiting: %s", str(error).partition("\n")[0])
            await asyncio.sleep(PAUSE_S)
        else:
            return True
    return False


@contextlib.asynccontextmanager
async def _beside(task: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Runs it until the body ends."""
    running = asyncio.create_task(task)
    try:
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def _opened(given: Settings) -> AlertStore:
    """Waits for the database."""
    while True:
        try:
            return open_alerts(given)
        except SQL_DOWN as error:
            log.warning("waiting: %s", str(error).partition("\n")[0])
            time.sleep(PAUSE_S)


def main() -> int:
    """0 when told to end; 1 when another process took over, 2 when a setting is wrong."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        return _main(settings.load())
    except SettingError as error:
        log.error("%s", error)  # noqa: TRY400  # one line is what is wrong
        return 2


def _main(given: Settings) -> int:
    networks(given.webhook_allow)
    store = _opened(given)
    try:
        uvloop.run(deliver(given, store.engine))
    except SupersededError as error:
        log.warning("%s", error)
        return 1
    finally:
        store.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
