"""The live feed of alerts and of the steps that they take: one listener a process, any number of clients.

A client holds nothing here but the numbers that it has reached, and goes at its own pace: what it lacks comes from the
latest kept in memory, or from SQL when it is further behind. So a slow client costs nothing and misses nothing.

An alert is told with the status that it has by then; of steps a client that wants them gets each that is numbered
after what it has reached. So whoever takes all events in their order ends with the status that holds, wherever they
were cut off.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import takewhile
from typing import TypeVar

import msgspec
import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool

from feature_repo import keys
from feature_repo.settings import Settings
from flows import alert_status, read_marks
from flows.alert_status import Step
from flows.alert_store import AlertStore, Filter, Stored, matches
from flows.read_marks import Reader
from flows.resp import StoreError, pack
from serving.alert_cursor import Head, Reached
from serving.alert_shown import Show, shown_step
from serving.connection import Connection, dial
from serving.errors import ApiError, unavailable

log = logging.getLogger("telltale.api")

KEPT = 2_048  # latest alerts in memory, and latest steps
PAGE = 100  # alerts that a client is sent at once, and steps
LOOK_S = 5.0  # at the latest SQL is looked at, told or not
PATIENCE = 3.0  # seconds that a change waits for those of other processes
BEAT_S = 15.0  # a sign of life on a silent stream
BELIEVED_S = 1.0  # that who was let in is not asked again
RETRY_S = 0.5
SQL_ERRORS = (sa.exc.DBAPIError, sa.exc.TimeoutError)
T = TypeVar("T")
Frame = tuple[int, bytes]  # number; the event without its id


class Shelf:
    """The table, asked on threads, made before it is first asked."""

    def __init__(self, settings: Settings) -> None:
        self.store = AlertStore(settings.database, PATIENCE)
        self._made = False

    async def ask(self, question: Callable[[AlertStore], T]) -> T:
        """Raises ApiError 503 while SQL is down."""
        try:
            return await run_in_threadpool(self._ask, question)
        except SQL_ERRORS as error:
            raise unavailable(f"the database cannot be asked now: {error.args[0] if error.args else error}") from error

    async def read(self, question: Callable[[sa.Connection], T]) -> T:
        """The same over a connection."""

        def ask(store: AlertStore) -> T:
            with store.engine.connect() as connection:
                return question(connection)

        return await self.ask(ask)

    async def write(self, change: Callable[[sa.Connection], T]) -> T:
        """The same in a transaction, which nobody else writes meanwhile."""

        def ask(store: AlertStore) -> T:
            with store.writing() as connection:
                return change(connection)

        return await self.ask(ask)

    def _ask(self, question: Callable[[AlertStore], T]) -> T:
        if not self._made:
            self.store.create()
            self._made = True
        return question(self.store)


class Kept(msgspec.Struct):
    """An alert in memory as it stands by now, and what is sent of it, made once for all clients."""

    stored: Stored
    frame: bytes | None = None


class Feed:
    """`head`: the latest known; all after `floor` up to it is in memory."""

    def __init__(self, settings: Settings, shelf: Shelf, show: Show) -> None:
        self.news = asyncio.Event()  # set, and then another one, whenever `head` moves
        self.head = self._floor = Head(0, 0)
        self._settings, self._shelf, self._show = settings, shelf, show
        self._alerts: dict[str, Kept] = {}  # in the order of their numbers
        self._steps: deque[tuple[Step, bytes]] = deque()
        self._started = False
        self._catching = asyncio.Lock()

    async def listen(self) -> None:
        """Until cancelled. While Redis is down SQL is looked at alone; while SQL is down clients wait."""
        while True:
            try:
                await self._follow(await dial(self._settings))
            except (StoreError, OSError) as error:
                log.warning("the alert feed looks at SQL alone: %s", error)
            await self.look()
            await asyncio.sleep(RETRY_S)

    async def _follow(self, connection: Connection) -> None:
        with contextlib.closing(connection):
            await connection.call([pack("SUBSCRIBE", keys.ALERTS_STORED, keys.ALERTS_MOVED)])
            while True:
                await self.look()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(connection.reply(), LOOK_S)

    async def look(self) -> None:
        """Catches up, or says why not."""
        try:
            await self.catch_up()
        except ApiError as error:
            log.warning("%s", error.detail)

    async def catch_up(self) -> None:
        """Takes in what SQL has beyond `head`; at first, where SQL is. Raises ApiError 503."""
        async with self._catching:
            if not self._started:
                self.head = self._floor = await self._shelf.ask(_heads)
                self._started = True
            while alerts := await self._shelf.ask(lambda store: store.after(Filter(), self.head.alerts, PAGE)):
                self._take_in(alerts)
            while steps := await self._shelf.read(lambda sql: _steps(sql, Filter(), self.head.changes)):
                self._take_steps(steps)

    def _take_in(self, page: list[Stored]) -> None:
        for stored in page:
            self._alerts[stored.alert.id] = Kept(stored)
        while len(self._alerts) > KEPT:
            oldest = self._alerts.pop(next(iter(self._alerts)))
            self._floor = self._floor._replace(alerts=oldest.stored.seq)
        self._reach(self.head._replace(alerts=page[-1].seq))

    def _take_steps(self, page: list[Step]) -> None:
        for step in page:
            if step.alert_id in self._alerts:
                stored = self._alerts[step.alert_id].stored
                moved = msgspec.structs.replace(stored.alert, status=step.to_status, status_at=step.at)
                self._alerts[step.alert_id] = Kept(Stored(stored.seq, moved))
            self._steps.append((step, _step_frame(step)))
        while len(self._steps) > KEPT:
            self._floor = self._floor._replace(changes=self._steps.popleft()[0].seq)
        self._reach(self.head._replace(changes=page[-1].seq))

    def _reach(self, head: Head) -> None:
        self.head = head
        self.news.set()
        self.news = asyncio.Event()

    async def start(self, after: Reached | None, *, steps: bool) -> Reached:
        """Where a stream begins: after an event, or with what is new (None). Raises ApiError 503.

        `steps`: with those of alerts, from now on where the event does not say since when.
        """
        if after is None or not self._started or not after.within(self.head):
            await self.catch_up()
        alerts, changes = after or Reached(*self.head)
        told = self.head.changes if changes is None else min(changes, self.head.changes)
        return Reached(min(alerts, self.head.alerts), told if steps else None)

    async def since(self, at: Reached, only: Filter, who: Reader | None = None) -> tuple[bytes, Reached]:
        """What to send after `at`, of at most PAGE alerts and steps, and what is reached. Raises ApiError 503.

        `who`: of whom each alert says whether they have read it.
        """
        head = self.head
        found = await self._alerts_after(at.alerts, only)
        if who is not None and found:
            found = await self._marked(found, who)
        sent = [b"id: %b\n%b" % (Reached(number, at.changes).id, frame) for number, frame in found]
        reached = at._replace(alerts=_end(found, head.alerts))
        if at.changes is not None and len(found) < PAGE:
            steps = await self._steps_after(at.changes, only)
            sent += [b"id: %b\n%b" % (Reached(reached.alerts, number).id, frame) for number, frame in steps]
            reached = reached._replace(changes=_end(steps, head.changes))
        return b"".join(sent), reached

    async def _alerts_after(self, seq: int, only: Filter) -> list[Frame]:
        if seq < self._floor.alerts:
            page = await self._shelf.ask(lambda store: store.after(only, seq, PAGE))
            return [(stored.seq, self._alert_frame(stored)) for stored in page]
        newer = list(takewhile(lambda kept: kept.stored.seq > seq, reversed(self._alerts.values())))[::-1]
        found = [kept for kept in newer if matches(only, kept.stored.alert)][:PAGE]
        return [(kept.stored.seq, self._kept_frame(kept)) for kept in found]

    async def _marked(self, found: list[Frame], who: Reader) -> list[Frame]:
        seqs = [number for number, _ in found]
        read = await self._shelf.read(lambda sql: read_marks.read_of(sql, who, seqs))
        told = {True: b'"read":true', False: b'"read":false'}
        return [(number, frame.replace(b'"read":null', told[number in read], 1)) for number, frame in found]

    async def _steps_after(self, seq: int, only: Filter) -> list[Frame]:
        if seq < self._floor.changes:
            page = await self._shelf.read(lambda sql: _steps(sql, only, seq))
            return [(step.seq, _step_frame(step)) for step in page]
        newer = list(takewhile(lambda kept: kept[0].seq > seq, reversed(self._steps)))[::-1]
        return [(step.seq, frame) for step, frame in newer if matches(only, step)][:PAGE]

    def _kept_frame(self, kept: Kept) -> bytes:
        if kept.frame is None:
            kept.frame = self._alert_frame(kept.stored)
        return kept.frame

    def _alert_frame(self, stored: Stored) -> bytes:
        return b"event: alert\ndata: %b\n\n" % msgspec.json.encode(self._show(stored.alert))


def _heads(store: AlertStore) -> Head:
    with store.engine.connect() as connection:
        return Head(store.head(), alert_status.head(connection))


def _steps(sql: sa.Connection, only: Filter, seq: int) -> list[Step]:
    return alert_status.after(sql, only, seq, PAGE)


def _step_frame(step: Step) -> bytes:
    return b"event: status\ndata: %b\n\n" % msgspec.json.encode(shown_step(step))


def _end(page: list[Frame], head: int) -> int:
    """The number reached by a page: a full one may have more behind it, any other holds all up to `head` at least."""
    return page[-1][0] if len(page) == PAGE else max([head, *(number for number, _ in page)])


async def frames(
    feed: Feed, at: Reached, only: Filter, still: Callable[[], Awaitable[bool]], who: Reader | None = None
) -> AsyncIterator[bytes]:
    """The stream of one client, after `at`: for ever, or until SQL is needed and down (the client comes again).

    `still`: whether the client is let in by now; asked before anything is sent, at least each `BEAT_S` seconds.
    """
    yield b"retry: 1000\nid: %b\n\n" % at.id  # so that nothing is missed by who is cut off before the first event
    asked = time.monotonic()
    while True:
        news = feed.news
        try:
            found, reached = await feed.since(at, only, who)
        except ApiError:
            return
        if not found and not reached.lacks(feed.head):
            found = await _wait(news, reached)
        if found and time.monotonic() - asked > BELIEVED_S:
            if not await still():
                return
            asked = time.monotonic()
        at = reached
        if found:
            yield found


async def _wait(news: asyncio.Event, at: Reached) -> bytes:
    """Nothing once there is news; after a while of silence, a comment."""
    try:
        await asyncio.wait_for(news.wait(), BEAT_S)
    except TimeoutError:
        return b": still here\nid: %b\n\n" % at.id
    return b""
