"""A steady load in a process of its own: `python -m tests.bench.paced PORT KEY RATE BATCH SECONDS [HOT]`.

Batches leave on schedule, whatever the answers take (one connection; the next batch waits for its turn only).
HOT: the share of events that is one user's. Prints how many events were accepted a second.
"""

from __future__ import annotations

import socket
import sys
import time

from tests.bench.load import requests


def answer(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65536)
    return head


def main(port: int, key: str, rate: float, batch: int, seconds: float, hot: float) -> None:
    supply = requests(key, batch, hot)
    accepted = 0
    with socket.create_connection(("127.0.0.1", port)) as connection:
        due = began = time.perf_counter()
        while due < began + seconds:
            time.sleep(max(0.0, due - time.perf_counter()))
            connection.sendall(next(supply))
            accepted += batch * answer(connection).startswith(b"HTTP/1.1 200")
            due += batch / rate
    print(accepted / (time.perf_counter() - began))


if __name__ == "__main__":
    port, key, rate, batch, seconds, *hot = sys.argv[1:]
    main(int(port), key, float(rate), int(batch), float(seconds), float(hot[0]) if hot else 0.0)
