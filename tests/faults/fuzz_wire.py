"""A connection as a target: uvicorn's protocol with ours over it, given bytes in pieces."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from serving.body import Gone, headers_of, read_json
from serving.errors import JSON, ApiError, reply, reply_error
from serving.front import Requests
from serving.shortcut import Done, Shortcuts, protocol

MOST_BODY = 256
CUT = b"\xff|"  # in an input: here one piece ends
TURNS = 8  # of the loop between two pieces


class Kept(asyncio.Transport):
    """What is written is kept."""

    def __init__(self) -> None:
        super().__init__({"sockname": ("127.0.0.1", 1), "peername": ("127.0.0.1", 2)})
        self.written, self.closed, self.reading = bytearray(), False, True

    def write(self, data: Any) -> None:
        self.written += b"" if self.closed else data  # as loops do

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers what it was sent, within a limit."""
    try:
        body = await read_json(headers_of(scope), receive, MOST_BODY)
    except ApiError as error:
        await reply_error(send, error)
    except Gone:
        return
    else:
        await reply(send, 200, body, JSON)


def quick(authorization: bytes, body: bytes, done: Done) -> bool:
    done(body)
    return True


class Wire:
    """Feeds connections, one after another."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(self._hear)
        self._failed: list[str] = []
        self._config = uvicorn.Config(app, ws="none", lifespan="off", access_log=False, log_config=None)
        self._config.load()
        self._connection = protocol(Shortcuts({"/quick": quick}, Requests()))
        self._state = ServerState()
        self._hearing = _Raised(self._failed)
        logging.getLogger("uvicorn.error").addHandler(self._hearing)

    def take(self, data: bytes) -> None:
        """Raises AssertionError where the protocol, or what it runs, failed."""
        transport = Kept()
        connection = self._connection(self._config, self._state, {}, _loop=self._loop)
        connection.connection_made(transport)
        for piece in data.split(CUT):
            if piece and not transport.closed and transport.reading:
                connection.data_received(piece)
                self._turn()
        if not transport.closed:
            connection.eof_received()
        connection.connection_lost(None)
        self._turn()
        assert not self._state.tasks, "expected no request to outlive its connection"
        assert not self._failed, self._failed
        assert not transport.written or transport.written.startswith(b"HTTP/1.1 "), bytes(transport.written)
        assert b"HTTP/1.1 5" not in transport.written, bytes(transport.written)

    def close(self) -> None:
        logging.getLogger("uvicorn.error").removeHandler(self._hearing)
        self._loop.close()

    def _turn(self) -> None:
        for _ in range(TURNS):
            self._loop.call_soon(self._loop.stop)
            self._loop.run_forever()

    def _hear(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._failed.append(repr(context))


class _Raised(logging.Handler):
    def __init__(self, found: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._found = found

    def emit(self, record: logging.LogRecord) -> None:
        self._found.append(record.getMessage())


def seeds() -> list[bytes]:
    head = b"POST /quick HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    whole, chunked = head + b"content-length: 2\r\n\r\n{}", head + b"transfer-encoding: chunked\r\n\r\n"
    return [
        *(whole, whole + whole, whole[:40] + CUT + whole[40:], whole.replace(b"/quick", b"/slow") * 3),
        *(chunked + b"2\r\n{}\r\n0\r\n\r\n", chunked + b"2;a=b\r\n{}\r\n" + CUT + b"0\r\nx: y\r\n\r\n"),
        head + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n" + whole,
        head + b"connection: upgrade\r\nupgrade: h2c\r\ncontent-length: 2\r\n\r\n{}",
        *(head + b"expect: 100-continue\r\ncontent-length: 2\r\n\r\n" + CUT + b"{}", b"GET / HTTP/1.0\r\n\r\n"),
    ]
