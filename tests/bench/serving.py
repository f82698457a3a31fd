"""What the feature doors alone take: resident memory after some thousand lookups, and seconds from start to ready.

`telltale features serve` on a store that runs, as its user starts it. Ready: `/health` answers and a lookup does.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from feature_repo import keys
from feature_repo.settings import Settings
from flows.store import connect
from tests.bench.lookup import MANY, bodies, load, store_with_people
from tests.bench.options import Options
from tests.bench.result import ROOT, Result, figure
from tests.live import KEY, ORGANISATION, Live, environment, free_port

PATIENCE = 20.0


def run(options: Options) -> Result:
    seconds = options.seconds or 3.0
    ready, at_start, resident = [], [], []
    with store_with_people() as settings, tempfile.TemporaryDirectory(prefix="telltale-bench-") as place:
        one, many = bodies(Path(place) / "one", "", 1), bodies(Path(place) / "many", "", MANY)
        _add_key(settings)
        for _ in range(options.runs):
            took, server = _started(settings, one.read_bytes().splitlines()[0])
            try:
                ready.append(took)
                at_start.append(_resident_mb(server.process.pid))
                load(server, 8, seconds, 0, one)
                load(server, 8, seconds, 0, many)
                resident.append(_resident_mb(server.process.pid))
            finally:
                server.process.terminate()
                server.process.wait(10)
    return Result(
        {
            "ready_s": figure(ready, "s"),
            "resident_mb": figure(resident, "MB"),
            "resident_mb_at_start": figure(at_start, "MB"),
        }
    )


def _add_key(settings: Settings) -> None:
    with contextlib.closing(connect(settings)) as client:
        client.hset(keys.KEYS, KEY, ORGANISATION)


def _started(settings: Settings, body: bytes) -> tuple[float, Live]:
    """Seconds from the start of the command to its first answer with features in it."""
    port = free_port()
    command = [sys.executable, "-m", "serving.command", "features", "serve", "--port", str(port)]
    began = time.perf_counter()
    process = subprocess.Popen(command, env=environment(settings), cwd=ROOT, stdout=subprocess.DEVNULL)
    server = Live(msgspec.structs.replace(settings, port=port), process)
    while time.perf_counter() < began + PATIENCE:
        with contextlib.suppress(OSError):
            if server.ask("GET", "/health", headers={}).status == 200:
                answer = server.ask("POST", "/get-online-features", body)
                if answer.status != 200 or b'"PRESENT"' not in answer.body:
                    raise RuntimeError(f"it answered {answer.status}: {answer.body[:300]!r}")
                return time.perf_counter() - began, server
        time.sleep(0.005)
    raise RuntimeError(f"not ready within {PATIENCE:g} s")


def _resident_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (told,) = (line for line in lines if line.startswith("VmRSS:"))
    return int(told.split()[1]) / 1024
