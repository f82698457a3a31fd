"""Feast's own feature server over a store of ours: what the tests compare with, and the benchmarks' peer."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from feature_repo.settings import Settings
from serving.feast_address import feast_address
from tests.live import ROOT, Live, free_port

FEAST = Path(sys.executable).with_name("feast")
PATIENCE = 60.0  # seconds; it takes some ten to start


def room(place: Path, settings: Settings) -> Path:
    """A copy of our feature repo in `place`, after `feast apply`."""
    copy = place / "feature_repo"
    shutil.copytree(ROOT / "feature_repo", copy, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([FEAST, "apply"], cwd=copy, env=_environment(copy, settings), capture_output=True, check=True)
    return copy


def _environment(copy: Path, settings: Settings) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(copy.parent),
        "TELLTALE_HOME": str(copy.parent),
        "TELLTALE_FEAST_REDIS": feast_address(settings),
        "FEAST_USAGE": "False",
    }


@contextlib.contextmanager
def feast_serve(copy: Path, settings: Settings) -> Iterator[Live]:
    """`feast serve` in that room, with one worker; ended at the end."""
    port = free_port()
    command = [str(FEAST), "serve", "--port", str(port), "--no-access-log", "--workers", "1", "--max-requests", "0"]
    with answering("feast serve", command, copy, _environment(copy, settings), settings, port) as server:
        yield server


@contextlib.contextmanager
def answering(
    what: str, command: Sequence[str | Path], place: Path, environ: Mapping[str, str], settings: Settings, port: int
) -> Iterator[Live]:
    """A process of `command` in `place`, from when it answers `GET /health` well on. Raises RuntimeError if never."""
    log = place / "serve.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=place, env=environ, stdout=out, stderr=out)
    server = Live(msgspec.structs.replace(settings, port=port), process)
    try:
        _await(what, server, log)
        yield server
    finally:
        process.terminate()
        process.wait(30)


def _await(what: str, server: Live, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while server.process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if server.ask("GET", "/health").status == 200:
                return
        time.sleep(0.1)
    raise RuntimeError(f"{what} did not start: {log.read_text()[-1000:]}")
