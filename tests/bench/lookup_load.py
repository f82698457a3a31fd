"""A load generator for feature lookups, in a process of its own: raw sockets, requests encoded beforehand.

`python -m tests.bench.lookup_load PORT KEY CONNECTIONS SECONDS RATE FILE` prints {"requests", "failed", "seconds",
"p50_ms", "p99_ms", "p999_ms", "max_ms"}. FILE: a request body a line, taken in turn. RATE 0: each connection sends,
awaits the answer, sends again (closed loop). Else so many requests a second in all, each due at a moment of its own and
timed from that moment on, whenever it could be sent (open loop).
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import uvloop

LENGTH = b"content-length: "
Answered = Callable[[float, bool], None]


def encoded(bodies: list[bytes], key: str) -> list[bytes]:
    """Whole HTTP requests."""
    login = base64.b64encode(f"{key}:".encode())
    head = b"POST /get-online-features HTTP/1.1\r\nhost: localhost\r\nauthorization: Basic %b\r\n"
    head += b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
    return [head % (login, len(body), body) for body in bodies]


class Caller(asyncio.Protocol):
    """One connection. `due` holds when each of its requests was to be sent; one is under way at a time."""

    def __init__(self, supply: Iterator[bytes], answered: Answered) -> None:
        self._supply, self._answered = supply, answered
        self._due: deque[float] = deque()
        self._buffer: list[bytes] = []
        self._missing = 0
        self.idle = asyncio.Event()
        self.idle.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def ask(self, due: float) -> None:
        self._due.append(due)
        if len(self._due) == 1:
            self.idle.clear()
            self._transport.write(next(self._supply))

    def data_received(self, data: bytes) -> None:
        if not self._missing:
            data = b"".join([*self._buffer, data])
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._buffer = [data]
                return
            at = data.index(LENGTH) + len(LENGTH)
            self._missing = int(data[at : data.index(b"\r", at)]) + end + 4
            self._good = data.startswith(b"HTTP/1.1 200")
            self._buffer = []
        self._missing -= len(data)
        if not self._missing:
            self._whole()

    def _whole(self) -> None:
        self._answered(time.perf_counter() - self._due.popleft(), self._good)
        if self._due:
            self._transport.write(next(self._supply))
        else:
            self.idle.set()

    def close(self) -> None:
        self._transport.close()


async def closed(callers: list[Caller], until: float) -> None:
    async def keep(caller: Caller) -> None:
        while (now := time.perf_counter()) < until:
            caller.ask(now)
            await caller.idle.wait()

    await asyncio.gather(*map(keep, callers))


async def paced(callers: list[Caller], until: float, rate: float) -> None:
    """Requests fall due at even distances; connections take them in turn."""
    loop, turn = asyncio.get_running_loop(), itertools.cycle(callers)
    moments = iter(itertools.count(time.perf_counter(), 1 / rate))
    ticks, ticking = os.pipe()

    def due() -> None:
        for _ in os.read(ticks, 1 << 16):
            next(turn).ask(next(moments))

    loop.add_reader(ticks, due)
    await loop.run_in_executor(None, _tick, ticking, until, 1 / rate)
    await asyncio.sleep(0.05)
    loop.remove_reader(ticks)
    await asyncio.gather(*(caller.idle.wait() for caller in callers))


def _tick(to: int, until: float, distance: float) -> None:
    """A byte whenever a request is due: a thread sleeps more exactly than the loop, whose timers know milliseconds."""
    due = time.perf_counter()
    while due < until:
        time.sleep(max(due - time.perf_counter(), 0.0))
        os.write(to, b".")
        due += distance


async def run(
    port: int, key: str, connections: int, seconds: float, rate: float, bodies: list[bytes]
) -> dict[str, float]:
    times: list[float] = []
    failed, ended = 0, 0.0

    def answered(took: float, good: bool) -> None:
        nonlocal failed, ended
        ended = time.perf_counter()
        times.append(took)
        failed += not good

    supply = itertools.cycle(encoded(bodies, key))
    loop = asyncio.get_running_loop()
    callers = [
        (await loop.create_connection(lambda: Caller(supply, answered), "127.0.0.1", port))[1]
        for _ in range(connections)
    ]
    began = time.perf_counter()
    await (paced(callers, began + seconds, rate) if rate else closed(callers, began + seconds))
    for caller in callers:
        caller.close()
    times.sort()
    shares = {"p50_ms": 0.5, "p99_ms": 0.99, "p999_ms": 0.999, "max_ms": 1.0}
    found = {name: times[min(int(len(times) * share), len(times) - 1)] * 1000 for name, share in shares.items()}
    return {"requests": len(times), "failed": failed, "seconds": ended - began, **found}


if __name__ == "__main__":
    port, key, connections, seconds, rate, file = sys.argv[1:]
    bodies = Path(file).read_bytes().splitlines()
    result = uvloop.run(run(int(port), key, int(connections), float(seconds), float(rate), bodies))
    print(msgspec.json.encode(result).decode())
