"""Where the engine's CPU goes: its stacks, sampled while it reads a filled log with everything written.

py-spy looks from outside, compiled code included; where it may not (no ptrace), a thread inside the engine looks, which
sees Python alone. `share`: of a step of the engine, with all that it calls. `self`: the ten Python
functions in which most time is spent, compiled code counted to whoever called it. `cpu_us_per_event`: of engine and of
store, over the time sampled.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import msgspec
import redis

from feature_repo.settings import Settings
from feature_repo.vocabulary import load
from flows.embedded import Embedded
from flows.store import Store
from tests.bench.collapsed import collapsed
from tests.bench.engine import MIDNIGHT, accounted, cpu_seconds, running, store_for_bench
from tests.bench.environments import Missing, environment, versions
from tests.bench.filled import Filler, zipf
from tests.bench.flame_picture import NATIVE
from tests.bench.options import Options
from tests.bench.result import ROOT, Figure, Result, figure
from tests.live import environment as settings_of

PACKAGES = ("py-spy==0.4.3",)
SECONDS, WARM = 30.0, 2.0
FASTEST = 150_000  # events a second that the log shall last for
CHUNK = 2_000_000
USERS = 300_000
HZ = 200
TOP = 10
STEPS = {  # of the engine, as its methods are called
    "read": "flows/engine.py Engine.read",
    "count": "flows/engine.py Engine.count",
    "features": "flows/engine.py Engine.evaluate",
    "scores": "flows/engine.py Engine.score",
    "episodes": "flows/engine.py Engine.decide",
    "build": "flows/engine.py Engine.write",
    "send": "flows/writer.py Writer._work",
}


class Ground(msgspec.Struct):
    """A store with a filled log."""

    settings: Settings
    server: Embedded
    client: redis.Redis
    store: Store

    def done(self) -> int:
        return accounted(self.client, self.store)


class Seen(msgspec.Struct):
    """Stacks of calls and how often each was seen; CPU an event meanwhile, of engine and of store, in us."""

    stacks: dict[str, int]
    engine_us: float
    store_us: float
    by: dict[str, str]


def run(options: Options) -> Result:
    seconds = options.seconds or SECONDS
    with store_for_bench() as (settings, server, client, store):
        _fill(Filler(client, store, load(), USERS), int(FASTEST * (seconds + 2 * WARM)))
        seen = _seen(Ground(settings, server, client, store), seconds)
    return Result(
        {
            "samples": figure([sum(seen.stacks.values())], ""),
            "cpu_us_per_event": figure([seen.engine_us], "us"),
            "cpu_us_per_event_store": figure([seen.store_us], "us"),
            **shares(seen.stacks),
        },
        versions={"sampler": seen.by},
        stacks=seen.stacks,
    )


def shares(stacks: Mapping[str, int]) -> dict[str, Figure]:
    """Of the engine's steps, and of the functions in which most is spent."""
    whole = sum(stacks.values()) or 1
    steps, own = Counter[str](), Counter[str]()
    for stack, seen in stacks.items():
        frames = stack.split(";")
        own[next((name for name in reversed(frames) if not name.startswith(NATIVE)), frames[-1])] += seen
        steps.update({step: seen for step, name in STEPS.items() if name in frames})
    told = {f"share {step}": steps[step] for step in STEPS} | {f"self {name}": n for name, n in own.most_common(TOP)}
    return {name: figure([100 * seen / whole], "%") for name, seen in told.items()}


def _fill(filler: Filler, events: int) -> None:
    filler.client.config_set("appendfsync", "no")
    for low in range(0, events, CHUNK):
        n = min(CHUNK, events - low)
        start = MIDNIGHT + low // 100
        filler.fill(zipf(USERS, 1.05, n, filler.rng), start, start + n // 100)
    filler.client.config_set("appendfsync", "always")


def _seen(ground: Ground, seconds: float) -> Seen:
    """From outside if that can be, else from within."""
    try:
        programs = environment("py-spy", *PACKAGES)
        with running(ground.settings, ground.client) as engine:
            return _metered(ground, engine.pid, versions(programs, *PACKAGES), partial(_spied, programs, seconds))
    except Missing as error:
        sys.stderr.write(f"sampled from within: {error}\n")
    with tempfile.TemporaryDirectory(prefix="telltale-bench-") as place:
        out = Path(place) / "stacks"
        with _looking(ground, out, seconds) as engine:
            return _metered(ground, engine.pid, {"a thread inside": ""}, partial(_asked, out))


@contextlib.contextmanager
def _looking(ground: Ground, out: Path, seconds: float) -> Iterator[subprocess.Popen[bytes]]:
    """An engine that looks at itself, once it goes on with the log."""
    command, done = [sys.executable, "-m", "tests.bench.sampled", str(out), str(seconds), str(HZ)], ground.done()
    engine = subprocess.Popen(command, cwd=ROOT, env=settings_of(ground.settings), stderr=subprocess.DEVNULL)
    try:
        while ground.done() == done:
            if engine.poll() is not None:
                raise RuntimeError(f"expected an engine that runs, it ended with {engine.returncode}")
            time.sleep(0.05)
        yield engine
    finally:
        engine.terminate()
        engine.wait(30)


def _metered(ground: Ground, pid: int, by: dict[str, str], look: Callable[[int], list[str]]) -> Seen:
    time.sleep(WARM)
    pids = (pid, ground.server.where.pid)
    before, done = [cpu_seconds(each) for each in pids], ground.done()
    lines = look(pid)
    events = ground.done() - done
    engine, store = (1e6 * (cpu_seconds(each) - was) / events for each, was in zip(pids, before, strict=True))
    return Seen(collapsed(lines), engine, store, by)


def _spied(programs: Path, seconds: float, pid: int) -> list[str]:
    """Raises Missing where nobody may look into another process."""
    with tempfile.TemporaryDirectory(prefix="telltale-bench-") as place:
        out = Path(place) / "stacks"
        words = ["--native", "--pid", str(pid), "--duration", f"{seconds:.0f}", "--rate", str(HZ), "--format", "raw"]
        command = [str(programs / "py-spy"), "record", *words, "--output", str(out)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or not out.exists():
            raise Missing(f"py-spy: {(done.stderr.strip().splitlines() or ['no output'])[-1]}")
        return out.read_text().splitlines()


def _asked(out: Path, pid: int) -> list[str]:
    """Of an engine that looks at itself once there is a file `out`, and says so in another."""
    out.touch()
    done = out.with_suffix(".done")
    while not done.exists():
        os.kill(pid, 0)  # raises ProcessLookupError if it has ended
        time.sleep(0.1)
    return done.read_text().splitlines()
