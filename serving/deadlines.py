"""uvicorn's HTTP protocol with what it lacks: deadlines for slow requests, a limit for headers, RFC 9457 errors."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serving.errors import PROBLEM, ApiError

HEAD_SECONDS = 10.0  # from the first byte of a request to the end of its headers
BODY_SECONDS = 30.0  # from there to the end of its body
HEAD_BYTES = 64 * 1024


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

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head = True, 0
        self.due = time.monotonic() + HEAD_SECONDS

    def on_headers_complete(self) -> None:
        self._in_head = False
        self.due = time.monotonic() + BODY_SECONDS
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self.due = 0.0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(ApiError(400, "expected an HTTP/1.1 request", "request"))

    def shutdown(self) -> None:
        """The process ends: so does a stream, which never would by itself; its client resumes it."""
        if self.cycle is not None and self.cycle.chunked_encoding and not self.cycle.response_complete:
            self.transport.close()
        super().shutdown()

    def overdue(self) -> None:
        """Gives the connection up."""
        what = ("headers", HEAD_SECONDS) if self._in_head else ("body", BODY_SECONDS)
        self._refuse(ApiError(408, f"expected the {what[0]} within {what[1]:g} s", what[0]))

    def _refuse(self, error: ApiError) -> None:
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
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
