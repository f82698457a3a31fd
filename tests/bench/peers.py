"""The stream beside what a user would pick instead, over the same JSON lines, with the same model and null sink.

Trailing counts of 12 event types over 1 h and 24 h, and a model of them (contenders/lines.py). Ours and the script
score whoever was touched, as lines come; Bytewax's, Pathway's and Flink's windows score as windows close, every hour.
Pathway and Bytewax's windows take so long that they get the lines of a tenth of the people, whole. Starting is
part of every run. Ours scores whoever was touched once a chunk of lines (contenders/ours.py); `as_often`: every 1,000
lines, as the script does. What it is to write all of it to a store: `telltale bench engine`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import msgspec

from tests.bench.contenders import lines as made
from tests.bench.environments import environment
from tests.bench.options import Options
from tests.bench.result import ROOT, Result, figure

LINES = 2_000_000
PART = 10
EVERY = "1000"  # lines between the script's scorings
QUICK = 200_000  # lines, where a run is to be short
PATHWAY = ("pathway==0.33.0", "onnxruntime==1.31.1", "numpy==2.4.6")
FLINK = ("apache-flink==2.3.0", "onnxruntime==1.31.1", "numpy==2.1.3")
Command: TypeAlias = "Callable[[], list[str | Path]]"

OURS: list[str | Path] = [sys.executable, "-m", "tests.bench.contenders.ours"]


class Run(msgspec.Struct):
    """What a contender told: lines a second from its start to its last score, and rows scored."""

    per_s: float
    scored: float


class Peer(msgspec.Struct):
    name: str
    command: Command
    part: bool = False  # of the lines alone
    once: bool = False


PEERS = (
    Peer("script", lambda: [sys.executable, _file("script.py")]),
    Peer("flink", lambda: [environment("flink", *FLINK) / "python", _file("in_flink.py")], once=True),
    Peer("pathway", lambda: [environment("pathway", *PATHWAY) / "python", _file("in_pathway.py")], True, True),
    Peer("bytewax_windows", lambda: [sys.executable, "-m", "tests.bench.contenders.bytewax_windows"], True, True),
)


def run(options: Options) -> Result:
    """`options.seconds` above 0: a short run."""
    with tempfile.TemporaryDirectory(prefix="telltale-bench-") as place:
        whole, part, model = (Path(place) / name for name in ("lines.jsonl", "part.jsonl", "model.onnx"))
        made.write_lines(whole, QUICK if options.seconds else LINES)
        made.write_part(whole, part, PART)
        made.write_model(model)
        ours: list[Run] = []
        as_often: list[Run] = []
        theirs: dict[str, list[Run]] = {peer.name: [] for peer in PEERS}
        for turn in range(options.runs):
            ours.append(_run(OURS, whole, model))
            as_often.append(_run(OURS, whole, model, EVERY))
            for peer in PEERS:
                if not (peer.once and turn):
                    theirs[peer.name].append(_run(peer.command(), part if peer.part else whole, model))
    speed = figure([each.per_s for each in ours], "1/s")
    ratios = {
        f"ratio_{name}": figure([a.per_s / b.per_s for a, b in zip(ours, runs, strict=False)], "x")
        for name, runs in theirs.items()
    }
    ratios["ratio_script_as_often"] = figure(
        [a.per_s / b.per_s for a, b in zip(as_often, theirs["script"], strict=True)], "x"
    )
    return Result(
        {"events_per_s": speed, "rows_scored": figure([each.scored for each in ours], "")} | ratios,
        {
            name: {
                "events_per_s": figure([each.per_s for each in runs], "1/s"),
                "rows_scored": figure([each.scored for each in runs], ""),
            }
            for name, runs in theirs.items()
        },
    )


def _file(name: str) -> Path:
    return ROOT / "tests" / "bench" / "contenders" / name


def _run(command: list[str | Path], lines: Path, model: Path, *more: str) -> Run:
    done = subprocess.run([*command, lines, model, *more], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[-1]} ended with {done.returncode}: {done.stderr[-2000:]}")
    n, seconds, scored, _ = map(float, done.stdout.splitlines()[-1].split())
    return Run(n / seconds, scored)
