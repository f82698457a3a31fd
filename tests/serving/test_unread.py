"""Who reads no answers, or asks far ahead of them, takes no more than their share; who hangs up ends all they asked."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, ClassVar

import pytest
import uvicorn

from serving import deadlines
from tests.live import free_port

MUCH = b"x" * (16 << 20)  # more than two sockets hold
GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


@contextlib.asynccontextmanager
async def served(app: Any) -> AsyncIterator[int]:
    """The port at which our protocol runs this app, in this process."""
    config = uvicorn.Config(app, port=free_port(), http=Seen, ws="none", lifespan="off", log_level="critical")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    watching = asyncio.create_task(deadlines.watch(server.server_state.connections, 0.02))  # type: ignore[arg-type]
    while not server.started:  # noqa: ASYNC110 # uvicorn has no event for it
        await asyncio.sleep(0.01)
    try:
        yield config.port
    finally:
        watching.cancel()
        server.should_exit = True
        await serving


class Seen(deadlines.Protocol):
    """Its connections, for as long as anybody holds them."""

    known: ClassVar[list[weakref.ref[deadlines.Protocol]]] = []

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        Seen.known.append(weakref.ref(self))
        super().connection_made(transport)


@contextlib.asynccontextmanager
async def line(port: int, window: int = 0) -> AsyncIterator[socket.socket]:
    """A connection whose system takes in so many bytes that nobody reads."""
    with socket.socket() as plain:
        plain.setblocking(False)
        if window:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        await asyncio.get_running_loop().sock_connect(plain, ("127.0.0.1", port))
        yield plain


async def read(plain: socket.socket, pause: float = 0.0) -> bytes:
    """All that comes until the connection ends."""
    found, loop = bytearray(), asyncio.get_running_loop()
    with contextlib.suppress(ConnectionError):
        while piece := await loop.sock_recv(plain, 1 << 16):
            found += piece
            await asyncio.sleep(pause)
    return bytes(found)


def within(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 20))


async def much(scope: Any, receive: Any, send: Any) -> None:
    """Answers with much, and then hangs up."""
    head = [(b"content-length", b"%d" % len(MUCH)), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": MUCH})


def test_an_answer_that_nobody_reads_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while without a byte taken, with its connection."""
    monkeypatch.setattr(deadlines, "UNREAD_SECONDS", 0.2)

    async def test() -> None:
        async with served(much) as port, line(port, 4096) as plain:
            await asyncio.get_running_loop().sock_sendall(plain, GET)
            await asyncio.sleep(1.0)  # nobody reads
            assert len(await read(plain)) < len(MUCH)

    within(test)


def test_a_slow_reader_is_told_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it takes, as long as it goes on."""
    monkeypatch.setattr(deadlines, "UNREAD_SECONDS", 0.5)

    async def test() -> None:
        async with served(much) as port, line(port) as plain:
            await asyncio.get_running_loop().sock_sendall(plain, GET)
            assert (await read(plain, 0.005)).endswith(MUCH)

    within(test)


def test_who_asks_far_ahead_of_the_answers_is_refused() -> None:
    """Up to a hundred requests wait; of more, which nobody sends in earnest, none is kept."""

    async def later(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.2)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    async def test() -> None:
        async with served(later) as port:
            async with line(port) as plain:
                await asyncio.get_running_loop().sock_sendall(plain, GET * (deadlines.MOST_AHEAD + 2))
                assert (await read(plain)).startswith(b"HTTP/1.1 429 ")
            async with line(port) as plain:
                await asyncio.get_running_loop().sock_sendall(plain, GET * (deadlines.MOST_AHEAD + 1))
                assert (await asyncio.get_running_loop().sock_recv(plain, 12)) == b"HTTP/1.1 200"

    within(test)


def test_who_hangs_up_ends_a_stream_that_has_a_request_behind_it() -> None:
    """The one under way is told, not the latest alone."""
    ended = asyncio.Event()

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        ended.set()

    async def test() -> None:
        async with served(stream) as port:
            async with line(port) as plain:
                await asyncio.get_running_loop().sock_sendall(plain, GET + GET)
                while b"begun" not in await asyncio.get_running_loop().sock_recv(plain, 1 << 16):
                    pass
            await ended.wait()

    within(test)


def test_nothing_is_left_of_a_connection() -> None:
    """Nor of what it asked ahead: the collector, which would find it, hardly ever looks at what is old."""

    async def test() -> None:
        Seen.known.clear()
        async with served(much) as port:
            async with line(port, 4096) as plain:
                await asyncio.get_running_loop().sock_sendall(plain, GET * 50)
                await asyncio.sleep(0.2)
            while [one for one in Seen.known if one() is not None]:  # noqa: ASYNC110 # nothing tells of it
                await asyncio.sleep(0.01)

    gc.disable()
    try:
        within(test)
    finally:
        gc.enable()
