"""A shorter way for the requests that have to be quick: from the socket to their door and back, past ASGI.

Taken where a whole request to such a door arrives in one piece on a connection that is between requests, which is what
clients send. All else, and all that is odd, goes the ordinary way to the same door.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus

import msgspec

from serving.body import KINDS
from serving.deadlines import HEAD_BYTES, Protocol
from serving.errors import JSON, PROBLEM, ApiError, fault
from serving.front import Requests

log = logging.getLogger("telltale.api")

Done = Callable[[bytes | ApiError], None]
Quick = Callable[[bytes, bytes, Done], bool]
KEEP_ALIVE = 75.0  # seconds that a connection may say nothing
MAX_HEADS, MAX_HEAD = 4096, 2048  # heads remembered, and their bytes
# Blanks around a value are stripped afterwards: a pattern with three runs of them takes seconds for a line of 2 kB.
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([\t\x20-\x7e\x80-\xff]*)")
_UPGRADE = re.compile(rb"(?im)^upgrade(?=[ \t]*:)")
_ODD = frozenset({b"transfer-encoding", b"content-encoding", b"expect", b"upgrade", b"trailer", b"te"})


_STATUS = {status.value: f"{status.value} {status.phrase}".encode() for status in HTTPStatus}


def _lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b"".join([b"%b: %b\r\n" % header for header in headers])


def _without_upgrade(data: bytes) -> bytes:
    """We upgrade to nothing, and whoever asks for it is to be answered all the same; the parser would drop the body.

    Source: RFC 9110, section 7.8. Java's own client asks so with each first request.
    """
    end = data.find(b"\r\n\r\n") % (len(data) + 1)  # none: all of it is head
    return _UPGRADE.sub(b"x-upgrade", data[:end]) + data[end:] if _UPGRADE.search(data, 0, end) else data


class Head(msgspec.Struct, frozen=True):
    """What the head of a request said."""

    path: str
    authorization: bytes
    length: int


class Shortcuts:
    """`quick` by path; what heads said is remembered, since a client sends the same again and again."""

    def __init__(self, quick: Mapping[str, Quick], requests: Requests) -> None:
        self.quick, self.requests = quick, requests
        self._begins = tuple(b"POST %b HTTP/1.1\r\n" % path.encode() for path in quick)
        self._heads: dict[bytes, Head | None] = {}
        self._headers: list[tuple[bytes, bytes]] = []
        self._lines = b""

    def lines(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        """Headers of every answer, as sent; another list a second, since one is the date."""
        if headers is not self._headers:
            self._headers, self._lines = headers, _lines(headers)
        return self._lines

    def head(self, raw: bytes) -> Head | None:
        """None: take the ordinary way. `raw` ends before the empty line."""
        if raw in self._heads:
            return self._heads[raw]
        if len(raw) > MAX_HEAD or not raw.startswith(self._begins):
            return None
        if len(self._heads) >= MAX_HEADS:
            self._heads.clear()
        found = self._heads[raw] = _parsed(raw)
        return found


def _parsed(raw: bytes) -> Head | None:
    request, *lines = raw.split(b"\r\n")
    found: dict[bytes, bytes] = {}
    for line in lines:
        header = _HEADER.fullmatch(line)
        if header is None or header[1].lower() in found:
            return None
        found[header[1].lower()] = header[2].strip(b" \t")
    length = found.get(b"content-length", b"")
    kind = found.get(b"content-type", b"").partition(b";")[0].strip().lower()
    ordinary = found.get(b"connection", b"keep-alive").lower() == b"keep-alive" and b"host" in found
    if not ordinary or _ODD & found.keys() or kind not in KINDS or not re.fullmatch(rb"[0-9]{1,9}", length):
        return None
    return Head(request.split(b" ")[1].decode(), found.get(b"authorization", b""), int(length))


class Shortcut(Protocol):
    """One connection."""

    shortcuts: Shortcuts
    _between = True  # no request has begun that has not ended
    _busy = False  # a quick one is under way
    _ending = False
    _held = b""  # what came meanwhile

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._socket = transport

    def data_received(self, data: bytes) -> None:
        if self._busy:
            self._hold(data)
        elif not self._taken(data):
            super().data_received(_without_upgrade(data) if self._between or self._in_head else data)

    def on_message_begin(self) -> None:
        self._between = False
        super().on_message_begin()

    def on_message_complete(self) -> None:
        self._between = True
        super().on_message_complete()

    def shutdown(self) -> None:
        if self._busy:
            self._ending = True
        else:
            super().shutdown()

    def overdue(self) -> None:
        if self._between:
            self.transport.close()  # nobody is owed an answer
        else:
            super().overdue()

    def _taken(self, data: bytes) -> bool:
        """Whether it was a whole quick request, which is then under way."""
        if not self._between or (self.cycle is not None and not self.cycle.response_complete) or self.flow.write_paused:
            return False
        end = data.find(b"\r\n\r\n")
        head = self.shortcuts.head(data[:end]) if end > 0 else None
        if head is None or len(data) - end - 4 != head.length:
            return False
        return self._begin(head, data[end + 4 :])

    def _begin(self, head: Head, body: bytes) -> bool:
        began = time.perf_counter()

        def done(found: bytes | ApiError) -> None:
            status = found.status if isinstance(found, ApiError) else 200
            self.shortcuts.requests.observe(head.path, status, time.perf_counter() - began)
            self._answer(found)

        self._busy, self.due = True, 0.0
        self._unset_keepalive_if_required()
        try:
            taken = self.shortcuts.quick[head.path](head.authorization, body, done)
        except Exception:  # the outermost frame of a request
            log.exception("POST %s failed", head.path)
            done(fault())
            return True
        if not taken:
            self._busy = False
        return taken

    def _answer(self, found: bytes | ApiError) -> None:
        self._busy = False
        if self._socket.is_closing():
            return
        self._socket.writelines(self._parts(found))
        self.due = time.monotonic() + KEEP_ALIVE
        if self._ending:
            self._socket.close()
        elif self._held:
            held, self._held = self._held, b""
            self._socket.resume_reading()
            self.data_received(held)

    def _parts(self, found: bytes | ApiError) -> tuple[bytes, bytes]:
        """The head and the body of an answer."""
        if isinstance(found, ApiError):
            return self._opening(found.status, PROBLEM, found.headers, found.body), found.body
        return self._opening(200, JSON, (), found), found

    def _opening(self, status: int, kind: bytes, more: tuple[tuple[bytes, bytes], ...], body: bytes) -> bytes:
        lines = self.shortcuts.lines(self.server_state.default_headers) + (_lines(more) if more else b"")
        return b"HTTP/1.1 %b\r\n%bcontent-type: %b\r\ncontent-length: %d\r\n\r\n" % (
            _STATUS[status], lines, kind, len(body)
        )  # fmt: skip

    def _hold(self, data: bytes) -> None:
        """What came before the answer has left waits for it."""
        self._held += data
        if len(self._held) > HEAD_BYTES:
            self._socket.pause_reading()


def protocol(shortcuts_: Shortcuts) -> type[Shortcut]:
    """The class for uvicorn."""
    return type("Connection", (Shortcut,), {"shortcuts": shortcuts_})
