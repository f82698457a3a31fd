"""A load generator for lookups and scores, in a process of its own: raw sockets, requests encoded beforehand.

`python -m tests.bench.lookup_load PORT KEY CONNECTIONS SECONDS RATE FILE [PATH]` prints {"requests", "failed",
"seconds", "p50_ms", "p99_ms", "p999_ms", "max_ms"}. FILE: a request body a line, taken in turn. RATE 0: each
connection sends, awaits the answer, sends again (closed loop). Else so many requests a second in all, each due at a
moment of its own and timed from that moment on, whenever it could be sent (open loop).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ctypes
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


def encoded(bodies: list[bytes], key: str, path: str) -> list[bytes]:
    """Whole HTTP requests."""
    login = base64.b64encode(f"{key}:".encode())
    head = b"POST " + path.encode() + b" HTTP/1.1\r\nhost: localhost\r\nauthorization: Basic %b\r\n"
    head += b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
    return [head % (login, len(body), body) for body in bodies]


class Caller(asyncio.Protocol):
    """One connection, one request under way at a time; `ended` is told when it was due, and whether it was good."""

    def __init__(self, supply: Iterator[bytes], ended: Callable[[Caller, float, bool], None]) -> None:
        self._supply, self._ended = supply, ended
        self._buffer: list[bytes] = []
        self._missing = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def ask(self, due: float) -> None:
        self._due = due
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
            self._ended(self, self._due, self._good)

    def close(self) -> None:
        self._transport.close()


class Callers:
    """All connections: what is due goes to one that is free, else waits for one."""

    def __init__(self, supply: Iterator[bytes]) -> None:
        self.times: list[float] = []
        self.failed, self.last = 0, 0.0
        self.again: Callable[[float], bool] = lambda now: False  # whether to ask again at once
        self._supply, self._free, self._due = supply, list[Caller](), deque[float]()
        self._all: list[Caller] = []

    async def connect(self, port: int, count: int) -> None:
        loop = asyncio.get_running_loop()
        made = [
            await loop.create_connection(lambda: Caller(self._supply, self._ended), "127.0.0.1", port)
            for _ in range(count)
        ]
        self._all = [caller for _, caller in made]
        self._free = list(self._all)

    def ask(self, due: float) -> None:
        if self._free:
            self._free.pop().ask(due)
        else:
            self._due.append(due)

    def _ended(self, caller: Caller, due: float, good: bool) -> None:
        self.last = now = time.perf_counter()
        self.times.append(now - due)
        self.failed += not good
        if self._due:
            caller.ask(self._due.popleft())
        elif self.again(now):
            caller.ask(now)
        else:
            self._free.append(caller)

    async def quiet(self) -> None:
        """Returns when all is answered."""
        while len(self._free) < len(self._all):  # noqa: ASYNC110 # an Event would cost a call a request
            await asyncio.sleep(0.005)

    def close(self) -> None:
        for caller in self._all:
            caller.close()


async def closed(callers: Callers, connections: int, until: float) -> None:
    callers.again = lambda now: now < until
    for _ in range(connections):
        callers.ask(time.perf_counter())
    await asyncio.sleep(max(until - time.perf_counter(), 0.0))


async def paced(callers: Callers, until: float, rate: float) -> None:
    """Requests fall due at even distances."""
    moments = iter(itertools.count(time.perf_counter(), 1 / rate))
    with ticking(1 / rate) as ticks:

        def due() -> None:
            for _ in range(int.from_bytes(os.read(ticks, 8), sys.byteorder)):
                callers.ask(next(moments))

        asyncio.get_running_loop().add_reader(ticks, due)
        await asyncio.sleep(until - time.perf_counter())
        asyncio.get_running_loop().remove_reader(ticks)


@contextlib.contextmanager
def ticking(seconds: float) -> Iterator[int]:
    """A Linux timerfd: the loop's own timers know milliseconds, and a thread of ours would want the interpreter."""
    libc = ctypes.CDLL(None, use_errno=True)
    timer = libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK)
    whole, nanos = divmod(round(seconds * 1e9), 1_000_000_000)
    if timer < 0 or libc.timerfd_settime(timer, 0, (ctypes.c_long * 4)(whole, nanos, whole, nanos), None):
        raise OSError(ctypes.get_errno(), "no timerfd")
    yield timer
    os.close(timer)


async def run(
    port: int, key: str, connections: int, seconds: float, rate: float, bodies: list[bytes], path: str
) -> dict[str, float]:
    callers = Callers(itertools.cycle(encoded(bodies, key, path)))
    await callers.connect(port, connections)
    began = time.perf_counter()
    await (paced(callers, began + seconds, rate) if rate else closed(callers, connections, began + seconds))
    await callers.quiet()
    callers.close()
    times = sorted(callers.times)
    shares = {"p50_ms": 0.5, "p99_ms": 0.99, "p999_ms": 0.999, "max_ms": 1.0}
    found = {name: times[min(int(len(times) * share), len(times) - 1)] * 1000 for name, share in shares.items()}
    cpu = time.process_time() / len(times) * 1e6
    return {"requests": len(times), "failed": callers.failed, "seconds": callers.last - began, "cpu_us": cpu, **found}


if __name__ == "__main__":
    port, key, connections, seconds, rate, file, *path = sys.argv[1:]
    bodies = Path(file).read_bytes().splitlines()
    to = path[0] if path else "/get-online-features"
    result = uvloop.run(run(int(port), key, int(connections), float(seconds), float(rate), bodies, to))
    print(msgspec.json.encode(result).decode())
