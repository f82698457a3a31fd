"""A connection to Redis or Valkey for the quick doors: callbacks instead of tasks, one write a turn of the loop."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from typing import Any

import hiredis

from feature_repo.settings import Settings
from flows.resp import Address, Lost, Refused, StoreError, login
from flows.store import address

PATIENCE = 10.0  # seconds in which the store has to answer
_NOTHING = object()
Then = Callable[[list[Any] | StoreError], None]  # takes the replies, or why there are none


class Waiting:
    """Who waits for how many replies."""

    __slots__ = ("count", "replies", "since", "then")

    def __init__(self, count: int, then: Then, since: float) -> None:
        self.count, self.then, self.since = count, then, since
        self.replies: list[Any] = []


class Pipeline(asyncio.Protocol):
    """One connection, made anew by `ready` whenever it was lost. `patience`: seconds for an answer."""

    def __init__(self, settings: Settings, patience: float = PATIENCE) -> None:
        self._settings, self._patience = settings, patience
        self._dialling = asyncio.Lock()
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[Waiting] = deque()
        self._out: list[bytes] = []

    @property
    def connected(self) -> bool:
        return self._transport is not None

    async def ready(self) -> None:
        """Returns once connected and logged in. Raises StoreError."""
        async with self._dialling:
            if self._transport is None:
                await self._dial()

    def send(self, commands: bytes, count: int, then: Then) -> None:
        """Packed commands; `then` is called with their `count` replies. Only while `connected`."""
        loop = self._loop
        if not self._out:
            loop.call_soon(self._flush)
        self._out.append(commands)
        self._waiting.append(Waiting(count, then, loop.time()))

    async def call(self, commands: bytes, count: int) -> list[Any]:
        """The same for who awaits. Raises StoreError."""
        await self.ready()
        answered: asyncio.Future[list[Any]] = self._loop.create_future()

        def then(replies: list[Any] | StoreError) -> None:
            if answered.done():
                return
            if isinstance(replies, StoreError):
                answered.set_exception(replies)
            else:
                answered.set_result(replies)

        self.send(commands, count, then)
        return await answered

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._watch.cancel()
        waiting, self._waiting = self._waiting, deque()
        self._out.clear()
        why = Lost(f"the store went away: {exc or 'it closed the connection'}")
        for one in waiting:
            one.then(why)

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        waiting, gets = self._waiting, self._reader.gets
        while waiting:
            one = waiting[0]
            replies, count = one.replies, one.count
            while len(replies) < count:
                reply = gets()
                if reply is _NOTHING:
                    return
                replies.append(reply)
            waiting.popleft()
            one.then(refused(replies) or replies)

    def _flush(self) -> None:
        if self._transport is not None and self._out:
            self._transport.write(b"".join(self._out))
        self._out.clear()

    async def _dial(self) -> None:
        at = address(self._settings)
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(protocolError=Lost, replyError=Refused, notEnoughData=_NOTHING)
        try:
            async with asyncio.timeout(self._patience):
                self._transport = await self._connect(at)
        except (OSError, TimeoutError) as error:
            raise Lost(f"no Redis or Valkey at {at}: {error}") from error
        self._watch = self._loop.call_later(self._patience / 10, self._look)
        if commands := login(at):
            await self._log_in(commands)

    async def _log_in(self, commands: list[bytes]) -> None:
        done = self._loop.create_future()
        self.send(b"".join(commands), len(commands), done.set_result)
        replies = await done
        if isinstance(replies, StoreError):
            self.close()
            raise replies

    async def _connect(self, at: Address) -> asyncio.Transport:
        if at.path:
            return (await self._loop.create_unix_connection(lambda: self, at.path))[0]
        secure = ssl.create_default_context() if at.tls else None
        return (await self._loop.create_connection(lambda: self, at.host, at.port, ssl=secure))[0]

    def _look(self) -> None:
        """Gives up a store that does not answer."""
        if self._transport is None:
            return
        if self._waiting and self._loop.time() - self._waiting[0].since > self._patience:
            self._transport.abort()
        self._watch = self._loop.call_later(self._patience / 10, self._look)


def refused(replies: list[Any]) -> Refused | None:
    """The first reply that is an error."""
    return next((reply for reply in replies if type(reply) is Refused), None)
