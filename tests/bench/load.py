"""A load generator in a process of its own: keep-alive connections, each sends, awaits the answer, sends again.

`python -m tests.bench.load PORT KEY CONNECTIONS SECONDS BATCH` prints {"requests", "failed", "seconds", "p50_ms",
"p99_ms"}. BATCH 0: single events to /v1/track; else batches of so many. Every event has a messageId of its own.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import random
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import msgspec
import uvloop

USERS = 50_000
HOT = "user-hot"
EVENTS = ("Document Viewed", "Email Opened", "Comparable Viewed", "Market Report Viewed", "Calculator Used")
MARK = "~~~~~~~~"  # stands for the number of the request in messageIds


def event(rng: random.Random, index: int, hot: float = 0.0) -> dict[str, object]:
    """As a server library of Segment sends it: about 400 bytes. `hot`: the share of events that is one user's."""
    return {
        "type": "track",
        "userId": HOT if hot and rng.random() < hot else f"user-{rng.randrange(USERS)}",
        "event": rng.choice(EVENTS),
        "messageId": f"{rng.getrandbits(64):016x}-{MARK}-{index}",
        "timestamp": datetime.now(UTC).isoformat(),
        "properties": {"document": f"doc-{rng.randrange(10_000)}", "title": "Statement", "pages": rng.randrange(40)},
        "context": {"library": {"name": "analytics-python", "version": "2.3.3"}, "ip": "203.0.113.7"},
        "integrations": {},
    }


def bodies(rng: random.Random, batch: int, hot: float = 0.0) -> list[bytes]:
    if not batch:
        return [msgspec.json.encode(event(rng, i, hot)) for i in range(2_000)]
    now = datetime.now(UTC).isoformat()
    return [
        msgspec.json.encode({"batch": [event(rng, i, hot) for i in range(batch)], "sentAt": now})
        for _ in range(max(4, 10_000 // batch))
    ]


def requests(key: str, batch: int, hot: float = 0.0) -> Iterator[bytes]:
    """HTTP requests without end."""
    login = base64.b64encode(f"{key}:".encode()).decode()
    path = "/v1/batch" if batch else "/v1/track"
    templates = []
    for body in bodies(random.Random(7), batch, hot):
        head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Basic {login}\r\n"
        head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        templates.append(head.encode() + body)
    mark = MARK.encode()
    for n, template in enumerate(itertools.cycle(templates)):
        yield template.replace(mark, b"%08x" % n)


class Caller(asyncio.Protocol):
    """One connection."""

    def __init__(self, supply: Iterator[bytes], until: float, answered: Callable[[float, bool], None]) -> None:
        self._supply, self._until, self._answered = supply, until, answered
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._next()

    def _next(self) -> None:
        self._buffer = b""
        self._sent = time.perf_counter()
        self._transport.write(next(self._supply))  # type: ignore[attr-defined]  # it is a Transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found or len(body) < int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]):
            return
        now = time.perf_counter()
        self._answered(now - self._sent, head.startswith(b"HTTP/1.1 200"))
        if now < self._until:
            self._next()
        else:
            self._transport.close()
            self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionError("the API closed the connection"))


async def run(port: int, key: str, connections: int, seconds: float, batch: int) -> dict[str, float]:
    supply = requests(key, batch)
    next(supply)  # the templates are made before the clock starts
    times: list[float] = []
    failed = 0

    def answered(took: float, good: bool) -> None:
        nonlocal failed
        times.append(took)
        failed += not good

    began = time.perf_counter()
    loop = asyncio.get_running_loop()
    callers = [
        (await loop.create_connection(lambda: Caller(supply, began + seconds, answered), "127.0.0.1", port))[1]
        for _ in range(connections)
    ]
    await asyncio.gather(*(caller.done for caller in callers))
    took = time.perf_counter() - began
    times.sort()
    middle, high = times[len(times) // 2] * 1000, times[len(times) * 99 // 100] * 1000
    return {"requests": len(times), "failed": failed, "seconds": took, "p50_ms": middle, "p99_ms": high}


if __name__ == "__main__":
    port, key, connections, seconds, batch = sys.argv[1:]
    result = uvloop.run(run(int(port), key, int(connections), float(seconds), int(batch)))
    print(msgspec.json.encode(result).decode())
