"""Fault: atheris makes inputs, guided by what they reach, for all code that reads what comes from outside and Redis."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.bench.environments import beside
from tests.faults.found import Found
from tests.live import ROOT

WANTED = 1_000_000  # inputs of a run that is given the time


def run(budget: float, dice: random.Random, home: Path) -> Found:
    """Every target in turn; one that raises, or takes more than a second of the processor's time, is a breach."""
    told = _fuzzed(budget, dice.getrandbits(31), home)
    for one in told:
        where = f"{one['target']}: expected an answer or a refusal to each input, see {home}, got:\n{one['failed']}"
        assert not one["failed"], where
    runs, seconds = sum(one["runs"] for one in told), sum(one["seconds"] for one in told)
    each = {f"inputs of {one['target']}": float(one["runs"]) for one in told}
    return Found(runs=runs, notes={"targets": float(len(told)), "inputs_a_second": runs / seconds, **each})


def _fuzzed(budget: float, seed: int, home: Path) -> list[dict[str, Any]]:
    """What each target came to. In a process of its own, which is instrumented as a whole."""
    command = [sys.executable, "-m", "tests.faults.fuzz_here", str(home), str(budget), str(seed)]
    with (home / "err").open("wb") as err:
        ended = subprocess.run(command, cwd=ROOT, env=_environment(), stdout=subprocess.PIPE, stderr=err, check=False)
    assert ended.returncode == 0, f"expected the fuzzing to end, got:\n{(home / 'err').read_text()[-6000:]}"
    return [json.loads(line) for line in ended.stdout.splitlines()]


def _environment() -> dict[str, str]:
    if find_spec("atheris"):
        return dict(os.environ)
    path = [str(beside("atheris", "atheris>=3,<4")), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}
