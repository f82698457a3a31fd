"""Hostile clients, a process: `python -m tests.faults.hostile_clients PORT LOGIN SECONDS KIND=COUNT ...`.

Says `ready` once all have connected; after SECONDS a line of JSON tells of each kind how many stood at the end, and of
each connection that was ended, after how many seconds, and by which status (0: none). Who is cut off comes again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import sys
import time
from typing import cast

import uvloop

CONNECTING = 200  # at once
WINDOW = 4096  # bytes of answers that the system of a slow reader takes in


class Client(asyncio.Protocol):
    """One connection. `opening` is sent at once, of `rest` a byte a second."""

    opening, rest = b"", b""
    window = 0
    patient = False  # reads nothing after its answer has begun

    def __init__(self, crowd: Crowd, login: str) -> None:
        self._crowd, self._login, self._said = crowd, login, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._began, self._at = time.monotonic(), 0
        self._crowd.clients.add(self)
        self.transport.write(self.opening.replace(b"LOGIN", self._login.encode()))

    def data_received(self, data: bytes) -> None:
        self._said = (self._said + data)[:64]
        if self.window:
            self.transport.pause_reading()

    def tick(self) -> None:
        """A second has passed."""
        if self.window and not self.patient:
            self.transport.resume_reading()
        if self.rest:
            self.transport.write(self.rest[self._at % len(self.rest) :][:1])
            self._at += 1

    def connection_lost(self, error: Exception | None) -> None:
        words = self._said.split(b" ", 2)
        self._crowd.lost(self, time.monotonic() - self._began, int(words[1]) if len(words) > 1 else 0)


class Head(Client):
    """Headers without end."""

    opening, rest = b"POST /v1/track HTTP/1.1\r\nhost: x\r\nx-slow: ", b"a"


class Body(Client):
    """A body that takes its time."""

    opening = (
        b"POST /v1/track HTTP/1.1\r\nhost: x\r\nauthorization: LOGIN\r\ncontent-type: application/json\r\n"
        b'content-length: 400\r\n\r\n{"userId":"slow","event":"Document Viewed","properties":{"x":"'
    )
    rest = b"y"


class Chunks(Client):
    """The same in chunks, of which there is no last one."""

    opening = (
        b"POST /v1/batch HTTP/1.1\r\nhost: x\r\nauthorization: LOGIN\r\ncontent-type: application/json\r\n"
        b"transfer-encoding: chunked\r\n\r\n"
    )
    rest = b"1\r\n[\r\n"


class Reader(Client):
    """Asks for much, and reads little of it."""

    opening = b"GET /openapi.json HTTP/1.1\r\nhost: x\r\nauthorization: LOGIN\r\n\r\n"
    window = WINDOW


class Stream(Client):
    """Asks for the live stream of alerts, and reads the beginning of it."""

    opening = b"GET /v1/alerts/stream?after=0 HTTP/1.1\r\nhost: x\r\nauthorization: LOGIN\r\n\r\n"
    window, patient = WINDOW, True


class Pipeline(Client):
    """Asks as far ahead as it may, for little and for much, and reads nothing."""

    opening = 50 * (
        b"GET /openapi.json HTTP/1.1\r\nhost: x\r\nauthorization: LOGIN\r\n\r\n"
        b"POST /get-online-features HTTP/1.1\r\nhost: x\r\nauthorization: LOGIN\r\ncontent-type: application/json\r\n"
        b'content-length: 69\r\n\r\n{"entities":{"user_id":["a"]},"feature_service":"likely_to_sell"}    '
    )
    window, patient = WINDOW, True


class Flood(Client):
    """Asks ten thousand times at once."""

    opening = 10_000 * b"GET / HTTP/1.1\r\n\r\n"


class Idle(Client):
    """Asked once, and stays."""

    opening = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"


class Silent(Client):
    """Says nothing at all."""


KINDS: dict[str, type[Client]] = {
    kind.__name__.lower(): kind for kind in (Head, Body, Chunks, Reader, Stream, Pipeline, Flood, Idle, Silent)
}


class Crowd:
    """All clients of one kind."""

    def __init__(self, kind: type[Client], count: int, port: int, login: str) -> None:
        self._kind, self._count, self._port, self._login = kind, count, port, login
        self._room = asyncio.Semaphore(CONNECTING)
        self._tasks = set[asyncio.Task[None]]()
        self.clients = set[Client]()
        self.ended: list[tuple[float, int]] = []
        self.refused = 0
        self.closing = False

    async def come(self) -> None:
        await asyncio.gather(*(self._connect() for _ in range(self._count)))

    async def _connect(self) -> None:
        async with self._room:
            line = socket.socket()
            line.setblocking(False)
            if self._kind.window:
                line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._kind.window)
            loop = asyncio.get_running_loop()
            try:
                await loop.sock_connect(line, ("127.0.0.1", self._port))
                await loop.create_connection(lambda: self._kind(self, self._login), sock=line)
            except OSError:
                line.close()
                self.refused += 1

    def lost(self, client: Client, seconds: float, status: int) -> None:
        self.clients.discard(client)
        if not self.closing:
            self.ended.append((seconds, status))
            task = asyncio.create_task(self._connect())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def told(self) -> dict[str, object]:
        return {"standing": len(self.clients), "ended": self.ended, "refused": self.refused}


async def main(port: int, login: str, seconds: float, wanted: dict[str, int]) -> None:
    crowds = {name: Crowd(KINDS[name], count, port, login) for name, count in wanted.items()}
    for crowd in crowds.values():
        await crowd.come()
    print("ready", flush=True)
    until = time.monotonic() + seconds
    while (now := time.monotonic()) < until:
        await asyncio.sleep(min(1.0, until - now))
        for client in [client for crowd in crowds.values() for client in crowd.clients]:
            client.tick()
    print(json.dumps({name: crowd.told() for name, crowd in crowds.items()}), flush=True)
    for crowd in crowds.values():
        crowd.closing = True
        for client in crowd.clients:
            client.transport.abort()


if __name__ == "__main__":
    random.seed(0)
    with contextlib.suppress(BrokenPipeError):
        uvloop.run(
            main(
                int(sys.argv[1]),
                sys.argv[2],
                float(sys.argv[3]),
                {name: int(count) for name, _, count in (word.partition("=") for word in sys.argv[4:])},
            )
        )
