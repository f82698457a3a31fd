"""Where messages arrive: a mail server and a web server of the tests' own, each on a thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
from aiosmtpd.controller import Controller

from tests.contracts.smtp_server import Postmaster
from tests.live import free_port


class Came(msgspec.Struct, frozen=True):
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class WebServer(ThreadingHTTPServer):
    """Writes down what comes. `status`: by path, what is answered there; else 200."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.came: list[Came] = []
        self.status: dict[str, int] = {}

    def at(self, path: str) -> list[Came]:
        return [one for one in self.came if one.path == path]


class _Handler(BaseHTTPRequestHandler):
    server: WebServer

    def _take(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.came.append(Came(self.command, self.path, headers, body))
        self.send_response(self.server.status.get(self.path, 200))
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_PUT = do_PATCH = do_GET = _take  # noqa: N815 # its names

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 # its name
        """Nothing."""


@contextmanager
def web_server() -> Iterator[WebServer]:
    with WebServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield server
        server.shutdown()


@contextmanager
def mail_server() -> Iterator[tuple[Postmaster, int]]:
    postmaster, port = Postmaster(), free_port()
    controller = Controller(postmaster, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield postmaster, port
    finally:
        controller.stop()
