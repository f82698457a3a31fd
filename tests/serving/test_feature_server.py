"""The feature doors alone: `telltale features serve`, and what becomes of them when the store goes."""

from __future__ import annotations

import base64
import http.client
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from feature_repo.settings import Settings
from flows.store import Embedded, embedded
from tests.live import ROOT, Answer, Live, environment, free_port, live

HEAVY = ("duckdb", "sqlalchemy", "onnxruntime", "xgboost", "pandas", "pyarrow", "bytewax", "feast")
ASKED = {"features": ["user_features:session_count_30d"], "entities": {"user_id": ["ada"]}}


def test_they_import_nothing_heavy() -> None:
    """Who starts them alone wants them small."""
    code = f"import sys, serving.feature_server; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[tuple[Live, Path]]:
    """`telltale features serve` in a home where nothing runs, and what it prints."""
    port, out = free_port(), tmp_path / "out"
    command = [sys.executable, "-m", "serving.command", "features", "serve", "--port", str(port)]
    settings = Settings(home=tmp_path, port=port)
    with out.open("wb") as said:
        process = subprocess.Popen(command, cwd=ROOT, env=environment(settings), stdout=said, stderr=said)
    running = Live(settings, process)
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        with suppress(OSError, http.client.HTTPException):
            if running.ask("GET", "/health", headers={}).status == 200:
                break
        time.sleep(0.02)
    yield running, out
    if process.poll() is None:
        process.kill()
        process.wait()


def test_they_run_alone_with_the_key_they_print(serve: tuple[Live, Path]) -> None:
    """On a store of their own; writes and reads work, the rest of the API is not there; a signal ends all."""
    running, out = serve
    key = re.findall(r"http://(.+):@127\.0\.0\.1:\d+'", out.read_text())[0]

    running.login = {"Authorization": "Basic " + base64.b64encode(f"{key}:".encode()).decode()}
    answer = running.post("/get-online-features", ASKED)
    assert answer.json["results"][1]["statuses"] == ["NOT_FOUND"]
    assert running.ask("GET", "/v1/alerts").status == 404
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(10) == 0
    assert not (running.settings.home / "store" / "valkey.sock").exists()


def test_a_port_that_is_taken_is_said_in_a_line(serve: tuple[Live, Path]) -> None:
    """With exit code 2."""
    port = str(serve[0].port)
    command = [sys.executable, "-m", "serving.command", "features", "serve", "--port", port]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(serve[0].settings), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Embedded]:
    server = embedded(tmp_path)
    yield server
    server.stop()


def test_without_a_store_readers_are_told_to_come_back(server: Embedded, tmp_path: Path) -> None:
    """503 with Retry-After, also for who is known; and 200 again once it is back."""
    with live(Settings(home=tmp_path), "serving.feature_server") as api:
        assert until(api, 200).status == 200
        assert server.process is not None
        server.process.kill()
        server.process.wait()
        gone = until(api, 503)
        assert gone.headers["retry-after"] == "1"
        assert gone.json["status"] == 503
        server.restart()
        assert until(api, 200).status == 200


def until(api: Live, status: int) -> Answer:
    deadline = time.monotonic() + 10
    while (answer := api.post("/get-online-features", ASKED)).status != status and time.monotonic() < deadline:
        time.sleep(0.02)
    return answer
