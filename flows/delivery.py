"""The core of delivery: takes what is due from the outbox, has it sent, and writes down what came of it.

A turn is one transaction on a thread of its own; attempts run beside each other on the event loop. What ended while a
turn was under way is recorded by the next, so under load many attempts share one commit.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from flows.channel import Channel, Dead, Parcel, Result, Retry, Sent
from flows.database import SQL_DOWN
from flows.ended import Ended
from flows.lanes import LONGEST_HOLD_MS, Draft, Key, Lanes
from flows.outbox import Outbox, Taken

log = logging.getLogger("telltale.delivery")

POLL_MS = 1_000  # at the latest SQL is looked at, told or not
JITTER = 0.1  # of a wait, either way: so that not all come again at once
BREATH_S = 0.005  # between two turns: others write too, and what ends meanwhile shares a commit
PAUSE_S = 0.3  # between two tries while SQL is down or locked
Clock = Callable[[], int]
T = TypeVar("T")


def wall_ms() -> int:
    return time.time_ns() // 1_000_000


class Onward:
    """Time as `wall_ms` tells it, ms, that never goes back: when the machine's clock is set back it goes on by itself.

    Else what was planned while that clock was ahead would wait until it is that time again.
    """

    def __init__(self, wall: Clock = wall_ms, steady: Clock = lambda: time.monotonic_ns() // 1_000_000) -> None:
        self._wall, self._steady = wall, steady
        self._now, self._at = wall(), steady()

    def __call__(self) -> int:
        at = self._steady()
        self._now, self._at = max(self._wall(), self._now + at - self._at), at
        return self._now


class Delivery:
    """`clock`: ms since 1970 that retries go by; `log_clock`: that statuses of alerts go by.

    `on_moved`: called on the thread that asks SQL when a status has moved.
    """

    def __init__(
        self,
        outbox: Outbox,
        *,
        clock: Clock = wall_ms,
        log_clock: Clock = wall_ms,
        chance: random.Random | None = None,
        on_moved: Callable[[], None] = lambda: None,
    ) -> None:
        self.outbox, self.clock, self.log_clock = outbox, clock, log_clock
        self.lanes = Lanes(outbox.channels)
        self._on_moved = on_moved
        self.bell = asyncio.Event()  # something may be to do
        self._chance = chance or random.Random()
        self._ended: list[Ended] = []
        self._sending: set[asyncio.Task[None]] = set()
        self._thread = ThreadPoolExecutor(1, "delivery-sql")
        self._more = False

    async def begin(self) -> None:
        """Takes over. Raises HeldError while another process sends, OperationalError."""
        self._wait(await self._ask(lambda: self.outbox.begin(self.clock())))

    def _wait(self, found: dict[Key, int]) -> None:
        for key, due in found.items():
            self.lanes.of(key).due = due

    async def _resume(self) -> None:
        """After a turn of which nobody knows whether it counts: what it took may be under way in the tables alone."""
        await self.settled()
        ended, lanes = list(self._ended), Lanes(self.outbox.channels)
        draft = Draft(lanes, self.clock())
        found = await self._ask(lambda: self.outbox.resume(draft, ended, self.log_clock()))
        del self._ended[: len(ended)]
        self.lanes = lanes
        self._wait(found)

    async def turn(self) -> None:
        """One transaction, if there is anything to do; then the attempts that it gave begin.

        Raises SupersededError, OperationalError; then nothing changed, or the next finds out what did.
        """
        if self.outbox.unsure:
            await self._resume()
        now, ended = self.clock(), list(self._ended)
        self.lanes.forget(now)
        draft = Draft(self.lanes, now)
        if not (ended or draft.ready() or self.outbox.sender.due(now) or await self._ask(self.outbox.news)):
            self._more = False
            return
        turn = await self._ask(lambda: self.outbox.turn(draft, ended, self.log_clock()))
        del self._ended[: len(ended)]
        self._more = turn.more
        for one in turn.taken:
            task = asyncio.create_task(self._attempt(one))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
        if turn.moved:
            await self._ask(self._on_moved)

    def wakes(self) -> int:
        """When the next turn is due, ms since 1970; sooner when the bell rings."""
        now = self.clock()
        if self._more or self._ended:
            return now
        at = self.lanes.wakes()
        return now + POLL_MS if at is None else max(min(at, now + POLL_MS), now)

    async def settled(self) -> None:
        """Until no attempt is under way."""
        while self._sending:
            await asyncio.wait(self._sending)

    async def run(self, stopping: asyncio.Event) -> None:
        """Turn after turn until told to stop. Raises SupersededError."""
        while not stopping.is_set():
            self.bell.clear()
            try:
                await self.turn()
            except SQL_DOWN as error:
                log.warning("the database cannot be asked now: %s", str(error).partition("\n")[0])
                await asyncio.sleep(PAUSE_S)
                continue
            await self._rest()

    async def stop(self, patience_s: float) -> None:
        """Lets attempts under way come to their ends for so long, and records those that did."""
        if self._sending:
            _, late = await asyncio.wait(self._sending, timeout=patience_s)
            for task in late:
                task.cancel()
        draft = Draft(self.lanes, self.clock())
        try:
            await self._ask(lambda: self.outbox.close(draft, self._ended, self.log_clock()))
        except SQL_DOWN as error:
            log.warning("what ended is sent again: %s", str(error).partition("\n")[0])
        self._thread.shutdown(wait=True)

    async def _rest(self) -> None:
        await asyncio.sleep(BREATH_S)
        seconds = (self.wakes() - self.clock()) / 1000
        if seconds > 0:
            try:
                await asyncio.wait_for(self.bell.wait(), seconds)
            except TimeoutError:
                return

    async def _ask(self, question: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, question)

    async def _attempt(self, taken: Taken) -> None:
        parcel, channel = taken.parcel, self.outbox.channels[taken.parcel.channel]
        began, started = self.clock(), time.monotonic()
        result = await _sent(channel, parcel, taken.to)
        took_ms = int((time.monotonic() - started) * 1000)
        now = self.clock()
        lane = self.lanes.ended((parcel.channel, parcel.target))
        if _well(result):
            lane.succeeded()
        else:
            lane.failed(now)
        if isinstance(result, Retry) and result.after_s:
            lane.hold(now, result.after_s * 1000)
        self._ended.append(Ended(parcel, result, began, took_ms, self._again(channel, taken, result, now)))
        self.bell.set()

    def _again(self, channel: Channel[object], taken: Taken, result: Result, now: int) -> int | None:
        """When it is tried again; None where it is not."""
        made = taken.parcel.attempt
        if not isinstance(result, Retry) or made >= (taken.tries or len(channel.schedule) + 1):
            return None
        wait = channel.schedule[min(made, len(channel.schedule)) - 1] * 1000
        drawn = wait * self._chance.uniform(1 - JITTER, 1 + JITTER)
        asked = min((result.after_s or 0.0) * 1000, LONGEST_HOLD_MS)
        return now + int(max(drawn, asked))


def _well(result: Result) -> bool:
    """Whether the other side takes what it is sent, if not this."""
    return isinstance(result, Sent | Dead) or (isinstance(result, Retry) and result.of_one)


async def _sent(channel: Channel[object], parcel: Parcel, to: object) -> Result:
    try:
        async with asyncio.timeout(channel.timeout_s):
            return await channel.send(parcel, to)
    except TimeoutError:
        return Retry(f"no answer within {channel.timeout_s:g} s")
    except Exception as error:  # a fault of a channel must not end the others
        log.exception("channel %s, delivery %s", channel.name, parcel.id)
        return Retry(f"a fault of ours: {type(error).__name__}")
