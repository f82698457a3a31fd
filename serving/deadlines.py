"""uvicorn's HTTP protocol with what it lacks: deadlines for slow requests and answers that nobody reads, limits for
headers and for requests sent ahead, an end to all that a lost connection asked, RFC 9457 errors.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import sys
import termios
import time
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from serving.errors import PROBLEM, ApiError

HEAD_SECONDS = 10.0  # from the first byte of a request to the end of its headers
BODY_SECONDS = 30.0  # from there to the end of its body
UNREAD_SECONDS = 60.0  # without a byte taken of an answer that waits for its reader
HEAD_BYTES = 64 * 1024
MOST_AHEAD = 100  # requests of a connection that wait for the answer before theirs; each takes some 2 kB


class OneWrite:
    """A transport that sends what is written in one turn of the loop at once: head and body in one system call."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._waiting: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append(data)

    def _flush(self) -> None:
        if self._waiting:
            self._transport.write(b"".join(self._waiting))
            self._waiting.clear()

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Protocol(HttpToolsProtocol):
    """One connection. `due` is when it is given up; 0 while we are the slow one."""

    due = 0.0
    _head = 0
    _in_head = True
    _crowded = False  # more requests were sent ahead than are taken
    _answering: RequestResponseCycle | None = None  # uvicorn's `cycle` is the latest request, this the one under way
    _unread, _unread_since = 0, 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(OneWrite(transport, self.loop))  # type: ignore[arg-type]  # quacks like one
        self.due = time.monotonic() + HEAD_SECONDS

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self.due and (self.cycle is None or self.cycle.response_complete):
            self.due = time.monotonic() + HEAD_SECONDS  # an empty line, which begins no request, ends no wait either
        if self._in_head and not self.transport.is_closing():
            self._head += len(data)
            if self._head > HEAD_BYTES:
                self._refuse(ApiError(431, f"expected headers of at most {HEAD_BYTES} bytes", "headers"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Tells every request, not the latest alone: a stream would else go on for ever."""
        for cycle in (self._answering, *(waiting for waiting, _ in self.pipeline)):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        super().connection_lost(exc)
        self.pipeline.clear()  # they point back here, and the collector seldom looks at what is old
        self.cycle, self._answering = None, None  # type: ignore[assignment]

    def on_message_begin(self) -> None:
        self._crowded = len(self.pipeline) >= MOST_AHEAD
        if self._crowded:
            raise ConnectionError  # the parser stops: see `send_400_response`
        super().on_message_begin()
        self._in_head, self._head = True, 0
        self.due = time.monotonic() + HEAD_SECONDS

    def on_headers_complete(self) -> None:
        self._in_head = False
        self.due = time.monotonic() + BODY_SECONDS
        super().on_headers_complete()
        if not self.pipeline:
            self._answering = self.cycle

    def on_response_complete(self) -> None:
        self._answering = self.pipeline[-1][0] if self.pipeline else None
        super().on_response_complete()

    def on_message_complete(self) -> None:
        self.due = 0.0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        if self._crowded:
            self._refuse(ApiError(429, f"expected at most {MOST_AHEAD} requests ahead of their answers", "request"))
        else:
            self._refuse(ApiError(400, "expected an HTTP/1.1 request", "request"))

    def shutdown(self) -> None:
        """The process ends: so does a stream, which never would by itself; its client resumes it."""
        if self._answering is not None and self._answering.chunked_encoding:
            self.transport.close()
        super().shutdown()

    def overdue(self) -> None:
        """Gives the connection up."""
        what = ("headers", HEAD_SECONDS) if self._in_head else ("body", BODY_SECONDS)
        self._refuse(ApiError(408, f"expected the {what[0]} within {what[1]:g} s", what[0]))

    def is_unread(self, now: float) -> bool:
        """Whether its client has taken nothing for long of what waits for it."""
        waits = self._untaken() if self.flow.write_paused else 0
        if waits != self._unread:
            self._unread, self._unread_since = waits, now
        return waits > 0 and now - self._unread_since > UNREAD_SECONDS

    def _untaken(self) -> int:
        """Bytes that wait here and, where it tells (as Linux does), in the system, which holds megabytes."""
        waits: int = self.transport.get_write_buffer_size()
        with contextlib.suppress(OSError):
            told = fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
            waits += int.from_bytes(told, sys.byteorder)
        return waits

    def _refuse(self, error: ApiError) -> None:
        if self._answering is None or not self._answering.response_started:
            body = error.body
            head = b"HTTP/1.1 %d \r\ncontent-type: %b\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
            self.transport.write(head % (error.status, PROBLEM, len(body)) + body)
        self.transport.close()


async def watch(connections: set[Protocol], period: float = 1.0) -> None:
    """Ends, again and again, the connections whose client is too slow."""
    while True:
        await asyncio.sleep(period)
        now = time.monotonic()
        for connection in [c for c in connections if 0 < c.due < now and not c.transport.is_closing()]:
            connection.overdue()
        for connection in [c for c in connections if c.is_unread(now)]:
            connection.transport.abort()
