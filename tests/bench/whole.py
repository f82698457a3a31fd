"""All benchmarks, one after another: `bench.json`, a list of reports, and `bench.html`, the same as one page.

A bench that fails is told with what it said, and the others go on; so is a contender that cannot be had. It takes about
an hour on two cores; `--quick` some ten minutes: shorter runs, one each, without those that cannot be shortened.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from tests.bench.page import page
from tests.bench.result import ROOT, Failed, Report

ORDER = (  # the longest first are those that most depend on an idle machine
    "engine",
    "peers",
    "day",
    "engines",
    "growth",
    "memory",
    "freshness",
    "hot-user",
    "ingest",
    "lookup",
    "push",
    "training-set",
    "backfill",
    "score",
    "stream-score",
    "swap",
    "train",
    "serving",
    "delivery",
    "alerts",
    "learning",
    "learning-drift",
    "learning-real",
    "limits",
    "flame",
    "real-data",
)
QUICK = {  # seconds of a run
    "engine": 20.0,
    "peers": 1.0,
    "day": 5.0,
    "engines": 5.0,
    "freshness": 5.0,
    "hot-user": 3.0,
    "ingest": 2.0,
    "lookup": 1.0,
    "push": 1.0,
    "score": 1.0,
    "stream-score": 1.0,
    "swap": 5.0,
    "serving": 1.0,
    "growth": 1.0,
    "limits": 1.0,
    "flame": 5.0,
}
PATIENCE = 1_800  # seconds that one may take, an environment to be made included


def names() -> list[str]:
    """Modules here that say how they are run."""
    files = Path(__file__).parent.glob("*.py")
    return sorted(path.stem.replace("_", "-") for path in files if "\ndef run(" in path.read_text())


def whole(place: Path, *, quick: bool) -> int:
    """Runs them all; 1 if one failed."""
    found: list[Report | Failed] = []
    there = names()
    for name in [name for name in ORDER if name in there and (not quick or name in QUICK)]:
        began = time.perf_counter()
        _say(f"{name}: ")
        found.append(_run(name, quick=quick))
        _say(f"{_told(found[-1])} after {time.perf_counter() - began:.0f} s\n")
        (place / "bench.json").write_bytes(msgspec.json.format(msgspec.json.encode(found)))
        (place / "bench.html").write_text(page(found))
    return int(any(isinstance(each, Failed) for each in found))


def _say(what: str) -> None:
    sys.stdout.write(what)
    sys.stdout.flush()


def _told(of: Report | Failed) -> str:
    if isinstance(of, Failed):
        return f"failed: {of.why}"
    return "done" + "".join(f", without {peer} ({why})" for peer, why in of.skipped.items())


def _run(name: str, *, quick: bool) -> Report | Failed:
    command = [sys.executable, "-m", "tests.bench", name, "--json", *(["--quick"] if quick else [])]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True, start_new_session=True)
    try:
        out, error = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return Failed(name, f"not done after {PATIENCE} s")
    finally:
        _end(process)
    if process.returncode:
        return Failed(name, (error.strip().splitlines() or [f"code {process.returncode}"])[-1])
    return msgspec.json.decode(out.splitlines()[-1], type=Report)


def _end(process: subprocess.Popen[str]) -> None:
    """With all that it started, should it still run."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
