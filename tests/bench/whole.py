"""All benchmarks, one after another: `bench.json`, a list of reports, and `bench.html`, the same as one page.

A bench that fails is told with what it said, and the others go on. `--quick` takes some ten minutes: shorter runs, one
each, without those that cannot be shortened.
"""

from __future__ import annotations

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
    "memory",
    "freshness",
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
    "growth",
    "limits",
    "real-data",
)
QUICK = {  # seconds of a run
    "engine": 20.0,
    "peers": 1.0,
    "freshness": 5.0,
    "ingest": 2.0,
    "lookup": 1.0,
    "push": 1.0,
    "score": 1.0,
    "stream-score": 1.0,
    "swap": 5.0,
    "serving": 1.0,
    "limits": 1.0,
}
PATIENCE = 1_800  # seconds that one may take


def whole(place: Path, *, quick: bool) -> int:
    """Runs them all; 1 if one failed."""
    found: list[Report | Failed] = []
    for name in [name for name in ORDER if not quick or name in QUICK]:
        began = time.perf_counter()
        found.append(_run(name, ["--runs", "1", "--seconds", str(QUICK[name])] if quick else []))
        said = f"failed: {found[-1].why}" if isinstance(found[-1], Failed) else "done"
        sys.stdout.write(f"{name} {said} after {time.perf_counter() - began:.0f} s\n")
        sys.stdout.flush()
        (place / "bench.json").write_bytes(msgspec.json.format(msgspec.json.encode(found)))
        (place / "bench.html").write_text(page(found))
    return int(any(isinstance(each, Failed) for each in found))


def _run(name: str, options: list[str]) -> Report | Failed:
    command = [sys.executable, "-m", "tests.bench", name, "--json", *options]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return Failed(name, f"not done after {PATIENCE} s")
    if done.returncode:
        return Failed(name, done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"code {done.returncode}")
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=Report)
