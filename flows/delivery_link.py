"""What ties the sending process to Redis: it is rung when something is to do, and says how things stand.

On a thread of its own. While Redis is down SQL is looked at alone, each second.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import msgspec
import redis

from feature_repo import keys
from feature_repo.settings import Settings
from flows import delivery_figures, log_time
from flows.database import SQL_DOWN
from flows.delivery import Delivery, wall_ms
from flows.store import Store, StoreError, connect, open_store

log = logging.getLogger("telltale.delivery")

SAY_S = 1.0  # between two words on how things stand
PAUSE_S = 0.5
T = TypeVar("T")


class Link:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ending = threading.Event()
        self._redis: tuple[redis.Redis, Store] | None = None  # of the thread that asks SQL
        self._log_ms, self._not_before = 0, 0.0

    def start(self, delivery: Delivery, loop: asyncio.AbstractEventLoop) -> None:
        def ring() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(delivery.bell.set)

        threading.Thread(target=self._follow, args=(delivery, ring), daemon=True).start()

    def stop(self) -> None:
        """Its thread may still wait for a word from Redis; nobody waits for it."""
        self._ending.set()

    def log_ms(self) -> int:
        """The time that alerts' statuses go by, ms since 1970; while Redis is down, as it was last known."""

        def ask(client: redis.Redis, store: Store) -> int:
            return wall_ms() if store.clock == "wall" else log_time.now_ms(client, store)

        self._log_ms = self._ask(ask) or self._log_ms
        return self._log_ms or wall_ms()

    def moved(self) -> None:
        """Tells listeners that alerts' statuses moved; they look by themselves, a little later, while Redis is down."""
        self._ask(lambda client, _: client.publish(keys.ALERTS_MOVED, ""))

    def _ask(self, question: Callable[[redis.Redis, Store], T]) -> T | None:
        if time.monotonic() < self._not_before:
            return None
        try:
            if self._redis is None:
                client = connect(self._settings)
                self._redis = client, open_store(client)
            return question(*self._redis)
        except (redis.RedisError, StoreError):
            self._redis, self._not_before = None, time.monotonic() + PAUSE_S
            return None

    def _follow(self, delivery: Delivery, ring: Callable[[], None]) -> None:
        while not self._ending.is_set():
            try:
                with contextlib.closing(connect(self._settings)) as client:
                    self._hear(client, delivery, ring)
            except (redis.RedisError, StoreError, *SQL_DOWN) as error:
                log.warning("waiting: %s", str(error).partition("\n")[0])
                self._ending.wait(PAUSE_S)

    def _hear(self, client: redis.Redis, delivery: Delivery, ring: Callable[[], None]) -> None:
        said = 0.0
        with client.pubsub(ignore_subscribe_messages=True) as heard:
            heard.subscribe(keys.ALERTS_STORED, keys.DELIVERIES)
            while not self._ending.is_set():
                if heard.get_message(timeout=SAY_S) is not None:
                    ring()
                if time.monotonic() - said >= SAY_S:
                    _say(client, gauges(delivery))
                    said = time.monotonic()


def gauges(delivery: Delivery) -> dict[str, float]:
    """What /metrics tells: `name`, or `name@channel`."""
    now, found = delivery.clock(), dict[str, float]()
    with delivery.outbox.engine.connect() as connection:
        by_channel = delivery_figures.by_channel(connection)
        oldest = delivery_figures.oldest(connection)
    for channel, figures in by_channel.items():
        found |= {f"{name}@{channel}": n for name, n in msgspec.structs.asdict(figures).items()}
    found["oldest_seconds"] = 0.0 if oldest is None else max(now - oldest, 0) / 1000
    found["overdue_seconds"] = delivery.lanes.overdue(now) / 1000
    found["breakers_open"] = delivery.lanes.resting()
    found["alive_at"] = now / 1000
    return found


def _say(client: redis.Redis, found: dict[str, float]) -> None:
    with client.pipeline(transaction=True) as pipe:
        pipe.delete(keys.DELIVERY)
        pipe.hset(keys.DELIVERY, mapping={name: repr(float(value)) for name, value in found.items()})
        pipe.execute()
