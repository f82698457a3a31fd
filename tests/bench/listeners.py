"""Clients of the live feed of alerts, as a process: `python -m tests.bench.listeners PORT AUTHORIZATION HOW_MANY`.

Says `ready` once all have connected; then a line an event received: the alert's id, and nanoseconds since 1970.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from functools import partial

import uvloop

ID = re.compile(rb'"id":"(al_[0-9a-f]+)"')


class Listener(asyncio.Protocol):
    """Asks for the stream, and writes down what comes."""

    def __init__(self, request: bytes, came: list[tuple[bytes, int]], ready: asyncio.Event) -> None:
        self._request, self._came, self.ready = request, came, ready
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.write(self._request)  # type: ignore[attr-defined]  # a socket's

    def data_received(self, data: bytes) -> None:
        now = time.time_ns()
        *events, self._rest = (self._rest + data).split(b"\n\n")
        for event in events:
            self.ready.set()
            if found := ID.search(event):
                self._came.append((found[1], now))


def _this(listener: Listener) -> Listener:
    return listener


async def listen(port: int, login: str, many: int) -> None:
    request = f"GET /v1/alerts/stream HTTP/1.1\r\nHost: x\r\nAuthorization: {login}\r\n\r\n".encode()
    came: list[tuple[bytes, int]] = []
    loop = asyncio.get_running_loop()
    listeners = [Listener(request, came, asyncio.Event()) for _ in range(many)]
    for listener in listeners:
        await loop.create_connection(partial(_this, listener), "127.0.0.1", port)
    await asyncio.gather(*(listener.ready.wait() for listener in listeners))
    print("ready", flush=True)
    while True:
        await asyncio.sleep(0.5)
        told, came[:] = came[:], []
        sys.stdout.write("".join(f"{id_.decode()} {at}\n" for id_, at in told))
        sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(listen(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
