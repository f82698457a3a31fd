"""Receivers of webhooks on real sockets: each path is one that behaves in a way of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
DRIP_S = 0.002


class Received(msgspec.Struct):
    """One request, as it came."""

    path: str
    headers: dict[str, str]
    body: bytes


class Receivers:
    """Answers by path: `/200`, `/500` and so on give that status; the others are in `_answer`."""

    def __init__(self) -> None:
        self.came: list[Received] = []
        self.opened = 0
        self.at_once = self.most_at_once = 0
        self.port = 0
        self.ending = asyncio.Event()
        self.answers: dict[str, list[bytes]] = {}  # by path: what is answered, one after the other, then OK

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def bodies(self, path: str) -> list[bytes]:
        return [one.body for one in self.came if one.path == path]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                self.came.append(await _request(reader))
                await self._answer(self.came[-1].path, writer)
        finally:
            self.at_once -= 1
            writer.close()

    async def _answer(self, path: str, writer: asyncio.StreamWriter) -> None:
        if self.answers.get(path):
            writer.write(self.answers[path].pop(0))
        elif path[1:].isdigit():
            body = "" if path == "/204" else "Content-Length: 2\r\n\r\nno"
            writer.write(f"HTTP/1.1 {path[1:]} As asked\r\n{body or chr(13) + chr(10)}".encode())
        elif path == "/redirects":
            writer.write(f"HTTP/1.1 302 Found\r\nLocation: {self.url}/200\r\nContent-Length: 0\r\n\r\n".encode())
        elif path in SLOW:
            await _drip(writer, SLOW[path], self.ending)
        else:
            writer.write(AT_ONCE.get(path, OK))
        await writer.drain()


SLOW = {  # what comes byte by byte; of `/hangs` nothing ever
    "/hangs": b"",
    "/drips": b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 4_000,
    "/drips-its-body": b"HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n" + b"x" * 4_000,
}
AT_ONCE = {
    "/closes": b"",
    "/dies": b"HTTP/1.1 200 OK\r\nContent-Le",
    "/floods": b"HTTP/1.1 500 No\r\nContent-Length: 100000000\r\n\r\n" + b"y" * 100_000,
}


async def _drip(writer: asyncio.StreamWriter, message: bytes, ending: asyncio.Event) -> None:
    for byte in message:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(DRIP_S)
        if ending.is_set():
            return
    await ending.wait()


async def _request(reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
    return Received(head[0].split(" ")[1], headers, await reader.readexactly(int(headers.get("content-length", "0"))))


@contextlib.asynccontextmanager
async def receivers(host: str = "127.0.0.1") -> AsyncIterator[Receivers]:
    found = Receivers()
    server = await asyncio.start_server(found.serve, host, 0)
    found.port = server.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        server.close()
        found.ending.set()
        while found.at_once:  # noqa: ASYNC110  # they have been told
            await asyncio.sleep(0.001)
