"""An asyncio connection to Redis or Valkey: packed commands out, replies in, one pipeline at a time."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from typing import Any

import hiredis

from feature_repo.settings import Settings
from flows.resp import Address, Lost, Refused, StoreError, login
from flows.store import address

_NOTHING = object()
READ = 1 << 18


class Connection:
    """Raises Lost when the server goes away or does not answer within `timeout` seconds."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, timeout: float) -> None:
        self._reader, self._writer, self._timeout = reader, writer, timeout
        self._turn = asyncio.Lock()  # whose replies are read: in the order in which commands were sent
        self._replies = hiredis.Reader(protocolError=Lost, replyError=Refused, notEnoughData=_NOTHING)

    async def call(self, commands: Sequence[bytes]) -> list[Any]:
        """The replies to packed commands, in order. One that is an error stands as a `Refused`."""
        if self.closed:  # another call found the server gone; writing now would be a fault of ours
            raise Lost("the store went away: the connection is closed")
        try:
            async with asyncio.timeout(self._timeout):
                self._writer.write(b"".join(commands))
                async with self._turn:
                    return [await self.reply() for _ in commands]
        except TimeoutError:
            self.close()
            raise Lost(f"the store did not answer within {self._timeout:g} s") from None
        except asyncio.CancelledError:
            self.close()  # replies that nobody reads would answer the next call
            raise
        except OSError as error:
            self.close()
            raise Lost(f"the store went away: {error}") from error

    async def reply(self) -> Any:
        """The next reply, or what the server sends to a subscriber, however long that takes. Raises ConnectionError."""
        while (reply := self._replies.gets()) is _NOTHING:
            data = await self._reader.read(READ)
            if not data:
                raise ConnectionError("it closed the connection")
            self._replies.feed(data)
        return reply

    @property
    def closed(self) -> bool:
        return self._writer.is_closing()

    def close(self) -> None:
        self._writer.close()


async def dial(settings: Settings, patience: float = 10.0) -> Connection:
    """A logged-in connection. Raises StoreError: Lost when there is no server, Refused when it turns us down."""
    at = address(settings)
    try:
        async with asyncio.timeout(patience):
            connection = Connection(*await _streams(at), patience)
    except (OSError, TimeoutError) as error:
        raise Lost(f"no Redis or Valkey at {at}: {error}") from error
    for reply in await connection.call(login(at)):
        if isinstance(reply, Refused):
            connection.close()
            raise reply
    return connection


async def _streams(at: Address) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if at.path:
        return await asyncio.open_unix_connection(at.path, limit=READ)
    secure = ssl.create_default_context() if at.tls else None
    return await asyncio.open_connection(at.host, at.port, ssl=secure, limit=READ)


class Client:
    """One connection shared by all readers of the API, made anew whenever it was lost."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = asyncio.Lock()
        self._connection: Connection | None = None

    async def call(self, *commands: bytes) -> list[Any]:
        """The replies to a pipeline; raises StoreError, also where the server refused one of the commands."""
        async with self._lock:
            try:
                replies = await (await self._connected()).call(commands)
            except StoreError:
                self.close()
                raise
        for reply in replies:
            if isinstance(reply, Refused):
                raise reply
        return replies

    async def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = await dial(self._settings)
        return self._connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None
