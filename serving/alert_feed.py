"""The live feed of alerts: one listener a process, any number of clients, each at its own pace.

A client holds nothing here but the number it has reached: what it lacks comes from the latest alerts kept in memory,
or from SQL when it is further behind. So a slow client costs nothing and misses nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from itertools import takewhile
from typing import TypeVar

import msgspec
import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool

from feature_repo import keys
from feature_repo.settings import Settings
from flows.alert_store import AlertStore, Filter, Stored, matches
from flows.resp import StoreError, pack
from serving.alert_shown import Show
from serving.connection import Connection, dial
from serving.errors import ApiError, unavailable

log = logging.getLogger("telltale.api")

KEPT = 2_048  # latest alerts in memory
PAGE = 100  # alerts that a client is sent at once
LOOK_S = 5.0  # at the latest SQL is looked at, told or not
BEAT_S = 15.0  # a sign of life on a silent stream
RETRY_S = 0.5
SQL_ERRORS = (sa.exc.DBAPIError, sa.exc.TimeoutError)
T = TypeVar("T")


class Shelf:
    """The table, asked on threads, made before it is first asked."""

    def __init__(self, settings: Settings) -> None:
        self.store = AlertStore(settings.database)
        self._made = False

    async def ask(self, question: Callable[[AlertStore], T]) -> T:
        """Raises ApiError 503 while SQL is down."""
        try:
            return await run_in_threadpool(self._ask, question)
        except SQL_ERRORS as error:
            raise unavailable(f"the database cannot be asked now: {error.args[0] if error.args else error}") from error

    def _ask(self, question: Callable[[AlertStore], T]) -> T:
        if not self._made:
            self.store.create()
            self._made = True
        return question(self.store)


class Feed:
    """`head` is the number of the latest alert known; all between `floor` (not included) and it are in memory."""

    def __init__(self, settings: Settings, shelf: Shelf, show: Show) -> None:
        self.news = asyncio.Event()  # set, and then another one, whenever `head` moves
        self.head = self.floor = 0
        self._settings, self._shelf, self._show = settings, shelf, show
        self._latest: deque[tuple[Stored, bytes]] = deque()  # with what is sent of it, made once for all clients
        self._started = False
        self._catching = asyncio.Lock()

    async def listen(self) -> None:
        """Until cancelled. While Redis is down SQL is looked at alone; while SQL is down clients wait."""
        while True:
            try:
                await self._follow(await dial(self._settings))
            except (StoreError, OSError) as error:
                log.warning("the alert feed looks at SQL alone: %s", error)
            await self._look()
            await asyncio.sleep(RETRY_S)

    async def _follow(self, connection: Connection) -> None:
        with contextlib.closing(connection):
            await connection.call([pack("SUBSCRIBE", keys.ALERTS_STORED)])
            while True:
                await self._look()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(connection.reply(), LOOK_S)

    async def _look(self) -> None:
        try:
            await self.catch_up()
        except ApiError as error:
            log.warning("%s", error.detail)

    async def catch_up(self) -> None:
        """Takes in what SQL has beyond `head`; at first, where SQL is. Raises ApiError 503."""
        async with self._catching:
            if not self._started:
                self.head = self.floor = await self._shelf.ask(lambda store: store.head())
                self._started = True
            while page := await self._shelf.ask(lambda store: store.after(Filter(), self.head, PAGE)):
                self._take_in(page)

    def _take_in(self, page: list[Stored]) -> None:
        self._latest.extend((stored, self._frame(stored)) for stored in page)
        self.head = page[-1].seq
        while len(self._latest) > KEPT:
            self.floor = self._latest.popleft()[0].seq
        self.news.set()
        self.news = asyncio.Event()

    async def start(self, seq: int | None) -> int:
        """Where a stream begins that goes on after `seq`, or that wants what is new (None). Raises ApiError 503."""
        if seq is None or not self._started or seq > self.head:
            await self.catch_up()
        return self.head if seq is None else min(seq, self.head)

    async def since(self, seq: int, only: Filter) -> tuple[bytes, int]:
        """What to send after `seq`, of at most PAGE alerts, and the number reached. Raises ApiError 503."""
        head = self.head
        if seq >= self.floor:
            found = self._remembered(seq, only)
        else:
            page = await self._shelf.ask(lambda store: store.after(only, seq, PAGE))
            found = [(stored.seq, self._frame(stored)) for stored in page]
        reached = found[-1][0] if len(found) == PAGE else max([head, *(number for number, _ in found)])
        return b"".join(frame for _, frame in found), reached

    def _frame(self, stored: Stored) -> bytes:
        return b"id: %d\nevent: alert\ndata: %b\n\n" % (stored.seq, msgspec.json.encode(self._show(stored.alert)))

    def _remembered(self, seq: int, only: Filter) -> list[tuple[int, bytes]]:
        newer = list(takewhile(lambda kept: kept[0].seq > seq, reversed(self._latest)))[::-1]
        return [(stored.seq, frame) for stored, frame in newer if matches(only, stored.alert)][:PAGE]


async def frames(feed: Feed, seq: int, only: Filter) -> AsyncIterator[bytes]:
    """The stream of one client, after `seq`: for ever, or until SQL is needed and down (the client comes again)."""
    yield b"retry: 1000\n\n"
    while True:
        news = feed.news
        try:
            found, seq = await feed.since(seq, only)
        except ApiError:
            return
        if found:
            yield found
        elif seq >= feed.head:
            yield await _wait(news)


async def _wait(news: asyncio.Event) -> bytes:
    """Nothing once there is news; after a while of silence, a comment."""
    try:
        await asyncio.wait_for(news.wait(), BEAT_S)
    except TimeoutError:
        return b": still here\n\n"
    return b""
