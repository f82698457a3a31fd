"""What a benchmark gives back."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

ROOT = Path(__file__).parents[2]


class Figure(msgspec.Struct):
    median: float
    min: float
    max: float
    unit: str


class Result(msgspec.Struct):
    """Figures by name; `peers`: the same by the name of what stood beside us in the same run."""

    figures: dict[str, Figure]
    peers: dict[str, dict[str, Figure]] = {}


class Report(msgspec.Struct, tag="measured"):
    """What a bench found, and where."""

    bench: str
    figures: dict[str, Figure]
    peers: dict[str, dict[str, Figure]]
    machine: dict[str, Any]
    commit: str


class Failed(msgspec.Struct, tag="failed"):
    """A bench that ended without figures, and what it said last."""

    bench: str
    why: str


def figure(values: Sequence[float], unit: str) -> Figure:
    """Of several runs."""
    middle, low, high = (float(f"{f(values):.4g}") for f in (statistics.median, min, max))
    return Figure(middle, low, high, unit)


def machine() -> dict[str, Any]:
    return {"cores": len(os.sched_getaffinity(0)), "cpu": _cpu(), "python": platform.python_version()}


def commit() -> str:
    """The commit checked out; `+` when files differ from it, empty outside a checkout."""
    command = ["git", "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
