"""The real API as a process of its own, for tests and benchmarks."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from feature_repo import keys
from feature_repo.settings import Settings
from flows.store import connect

KEY, ORGANISATION = "key-of-main", "main"
ROOT = Path(__file__).parents[1]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class Answer(msgspec.Struct):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Live:
    """A running API; `ask` uses a fresh connection each time."""

    def __init__(self, settings: Settings, process: subprocess.Popen[bytes]) -> None:
        self.settings, self.process, self.port = settings, process, settings.port
        self.login = {"Authorization": "Basic " + base64.b64encode(f"{KEY}:".encode()).decode()}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """With the write key, unless `headers` are given."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)) as connection:
            connection.request(method, path, body, dict(self.login if headers is None else headers))
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, found, answer.read())

    def post(self, path: str, message: object, **headers: str) -> Answer:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        json_kind = {"Content-Type": "application/json"}
        return self.ask("POST", path, msgspec.json.encode(message), {**self.login, **json_kind, **sent})


def environment(settings: Settings) -> dict[str, str]:
    ours = {f"TELLTALE_{name.upper()}": str(value) for name, value in msgspec.structs.asdict(settings).items()}
    return {**os.environ, **ours}


@contextlib.contextmanager
def live(settings: Settings, module: str = "serving.app") -> Iterator[Live]:
    """The API on a free port, with a write key; ends as it ends in earnest, by SIGTERM. `module`: a peer of it."""
    settings = msgspec.structs.replace(settings, port=free_port())
    with contextlib.closing(connect(settings)) as client:
        client.hset(keys.KEYS, KEY, ORGANISATION)
        client.sadd(keys.ADMINS, KEY)
    command = [sys.executable, "-m", module, str(settings.port)]
    process = subprocess.Popen(command, env=environment(settings), cwd=ROOT)
    running = Live(settings, process)
    try:
        _await(running)
        yield running
    finally:
        process.terminate()
        process.wait(10)


@contextlib.contextmanager
def worker(settings: Settings, module: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process of the flow, such as `flows.alerting`; ends by SIGTERM."""
    process = subprocess.Popen([sys.executable, "-m", module], env=environment(settings), cwd=ROOT)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(10)


def _await(running: Live) -> None:
    deadline = time.monotonic() + 15
    while running.process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if running.ask("GET", "/healthz").status == 200:
                return
        time.sleep(0.02)
    raise RuntimeError(f"the API did not start: exit code {running.process.poll()}")
