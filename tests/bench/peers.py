"""The stream beside what a user would pick instead, over the same JSON lines, with the same model and null sink.

Trailing counts of 12 event types over 1 h and 24 h, and a model of them (contenders/lines.py). Ours and the script
score whoever was touched, as lines come; Bytewax's, Pathway's and Flink's windows score as windows close, every hour.
Pathway takes so long that it gets the lines of a tenth of the people, whole; Bytewax's windows, whose cost a line grows
with the people, those of a hundredth: of a tenth they were not done after six minutes. Starting is part of every run.
Ours scores whoever was touched once a chunk of lines (contenders/ours.py); `as_often`: every 1,000 lines, as the script
does. A ratio is of events a second. Pathway, Flink and Bytewax's windows run once; Flink does not say how many rows it
scored. In a short run starting is most of what Flink and Pathway do: their ratios count in a whole one alone.

`stored`: the whole path over the same lines, which does far more: log, state, features, positions and alerts in the
store, each commit with an fsync, nothing lost or counted twice at a kill (contenders/stored.py). Beside it the script
that also writes its 24 features by redis-py into the same kind of store, and has nothing of the rest.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tests.bench.contenders import lines as made
from tests.bench.engine import store_for_bench
from tests.bench.environments import Missing, environment, installed, versions
from tests.bench.options import Options
from tests.bench.result import ROOT, Figure, Result, figure

LINES = 2_000_000
PART, SMALL_PART = 10, 100  # each how manieth person
EVERY = "1000"  # lines between the script's scorings
QUICK = 200_000  # lines, where a run is to be short
PATHWAY = ("pathway==0.33.0", "onnxruntime==1.31.1", "numpy==2.4.6")
FLINK = ("apache-flink==2.3.0", "onnxruntime==1.31.1", "numpy==2.1.3")
PLACE = ROOT / "tests" / "bench" / "contenders"


class Run(msgspec.Struct):
    """What a contender told: lines a second from its start to its last score, and rows scored."""

    per_s: float
    scored: float


class Contender(msgspec.Struct, frozen=True):
    """`file`: a module of ours, or where it has `packages` run in an environment of its own. `part`: each how manieth
    person's lines.
    """

    name: str
    file: str
    packages: tuple[str, ...] = ()
    program: str = ""  # that it needs besides
    alone: bool = False  # it imports nothing of ours
    part: int = 1
    once: bool = False

    def command(self) -> list[str]:
        """Raises Missing."""
        if self.program and not shutil.which(self.program):
            raise Missing(f"expected a program {self.program}, found none")
        if self.packages:
            return [str(environment(self.name, *self.packages) / "python"), str(PLACE / self.file)]
        if self.alone:
            return [sys.executable, str(PLACE / self.file)]
        return [sys.executable, "-m", f"tests.bench.contenders.{self.file.removesuffix('.py')}"]

    def versions(self) -> dict[str, str]:
        if not self.packages:
            return installed("bytewax") if "bytewax" in self.name else {}
        there = versions(environment(self.name, *self.packages), *self.packages)
        if self.program:
            said = subprocess.run([self.program, "-version"], capture_output=True, text=True, check=False)
            there[self.program] = (said.stderr or said.stdout).partition("\n")[0]
        return there


OURS = Contender("ours", "ours.py")
PEERS = (
    Contender("script", "script.py", alone=True),
    Contender("flink", "in_flink.py", FLINK, "java", once=True),
    Contender("pathway", "in_pathway.py", PATHWAY, part=PART, once=True),
    Contender("bytewax_windows", "bytewax_windows.py", part=SMALL_PART, once=True),
)
STORED = Contender("stored", "stored.py")
SCRIPT_STORED = Contender("script_redis", "script_stored.py", alone=True)


class Ground(msgspec.Struct):
    """Where the lines are, all and parts, and the model."""

    lines: dict[int, Path]
    model: Path

    def run(self, contender: Contender, *more: str) -> Run:
        """Raises Missing, or RuntimeError with what it said last."""
        words = [*contender.command(), str(self.lines[contender.part]), str(self.model), *more]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            said = done.stderr.strip().splitlines() or [f"ended with {done.returncode}"]
            raise RuntimeError(f"{contender.name}: {said[-1][:300]}")
        n, seconds, scored, _ = map(float, done.stdout.splitlines()[-1].split())
        return Run(n / seconds, scored)


def run(options: Options) -> Result:
    """`options.seconds` above 0: a short run."""
    with tempfile.TemporaryDirectory(prefix="telltale-bench-") as place:
        ground = _ground(Path(place), QUICK if options.seconds else LINES)
        found: dict[str, list[Run]] = {}
        skipped: dict[str, str] = {}
        for turn in range(options.runs):
            found.setdefault("ours", []).append(ground.run(OURS))
            found.setdefault("as_often", []).append(ground.run(OURS, EVERY))
            found.setdefault("stored", []).append(ground.run(STORED))
            _redis(ground, found)
            for peer in PEERS:
                if peer.name not in skipped and not (peer.once and turn):
                    _peer(ground, peer, found, skipped)
    return result(found, skipped)


def _ground(place: Path, lines: int) -> Ground:
    files = {share: place / f"lines-{share}.jsonl" for share in (1, PART, SMALL_PART)}
    made.write_lines(files[1], lines)
    for share in (PART, SMALL_PART):
        made.write_part(files[1], files[share], share)
    ground = Ground(files, place / "model.onnx")
    made.write_model(ground.model)
    return ground


def _peer(ground: Ground, peer: Contender, found: dict[str, list[Run]], skipped: dict[str, str]) -> None:
    try:
        ran = ground.run(peer)
    except RuntimeError as error:  # it cannot be had, or does not work here: the others go on
        skipped[peer.name] = str(error)
        found.pop(peer.name, None)
    else:
        found.setdefault(peer.name, []).append(ran)


def _redis(ground: Ground, found: dict[str, list[Run]]) -> None:
    with store_for_bench() as (_, server, _, _):
        found.setdefault(SCRIPT_STORED.name, []).append(ground.run(SCRIPT_STORED, server.where.socket))


def result(found: dict[str, list[Run]], skipped: dict[str, str]) -> Result:
    theirs = [peer for peer in PEERS if peer.name in found]
    ratios = {f"ratio_{peer.name}": _ratio(found["ours"], found[peer.name]) for peer in theirs}
    if "script" in found:
        ratios["ratio_script_as_often"] = _ratio(found["as_often"], found["script"])
    stored, script = _told(found["stored"], "_stored"), _told(found["script_redis"], "_stored")
    ratios["ratio_script_stored"] = _ratio(found["stored"], found["script_redis"])
    return Result(
        _told(found["ours"]) | ratios | stored,
        {peer.name: _told(found[peer.name]) for peer in theirs} | {"script_redis": script},
        {peer.name: told for peer in theirs if (told := peer.versions())},
        skipped,
    )


def _told(runs: Sequence[Run], suffix: str = "") -> dict[str, Figure]:
    told = {f"events_per_s{suffix}": figure([each.per_s for each in runs], "1/s")}
    if all(each.scored for each in runs):
        told[f"rows_scored{suffix}"] = figure([each.scored for each in runs], "")
    return told


def _ratio(ours: Sequence[Run], theirs: Sequence[Run]) -> Figure:
    """Of the runs of one turn."""
    return figure([a.per_s / b.per_s for a, b in zip(ours, theirs, strict=False)], "x")
