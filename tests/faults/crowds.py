"""Fault: a thousand slow connections and ten thousand idle ones, while good events come in."""

from __future__ import annotations

import base64
import json
import random
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from serving.deadlines import BODY_SECONDS, HEAD_SECONDS
from tests.faults.found import Found
from tests.faults.steady import Account, Steady, Watched, account, weight, whole
from tests.live import KEY, ROOT
from tests.running_up import Up

SLOW = {"head": 300, "body": 300, "chunks": 200, "reader": 200}
IDLE = {"idle": 10_000}
SPARE = 1_000  # files that both sides need for other things
WAVE = 45.0  # seconds that a wave stays: longer than the slowest body is waited for
SLACK = 5.0  # seconds that a cut may be late: they are looked at once a second, beside everything else
KB_A_CONNECTION, MB = 64, 200.0  # that the API may grow by: for each connection, and besides
LOGIN = "Basic " + base64.b64encode(f"{KEY}:".encode()).decode()


class Wave(msgspec.Struct):
    """What came of one: connections as asked for, of each kind what became of them, and what the API held."""

    asked: int
    told: dict[str, Any]
    grown_mb: float
    files: int


def run(budget: float, dice: random.Random, home: Path) -> Found:
    """Waves of them as long as there is time, each at least until slow headers are cut, and the good load all along."""
    with closing(whole(home)) as up:
        (pid,) = up.pids("serving.app")
        before = weight(pid)
        good = Steady(up.settings, dice.getrandbits(32))
        good.start()
        began, waves = time.monotonic(), [_wave(up, pid, min(WAVE, max(HEAD_SECONDS + SLACK, budget - 30)))]
        while time.monotonic() - began + WAVE + 25 < budget:
            waves.append(_wave(up, pid, WAVE))
        good.end()
        _until_files(pid, before.files + SPARE // 10)
        found, after = account(up.settings, good), weight(pid)
        _check(waves, good)
    notes = {"before_mb": before.mb, "after_mb": after.mb, "files_before": float(before.files)}
    return _found(waves, good, found, notes | {"files_after": float(after.files)})


def _found(waves: Sequence[Wave], good: Steady, of: Account, notes: dict[str, float]) -> Found:
    cuts = {kind: _cut(waves, kind) for kind in ("head", "body", "chunks")}
    told: dict[str, float | str] = {
        **notes,
        "connections": float(min(wave.asked for wave in waves)),
        "grown_mb": max(wave.grown_mb for wave in waves),
        "files_most": float(max(wave.files for wave in waves)),
        "good_p50_ms": good.milliseconds(50),
        "good_p99_ms": good.milliseconds(99),
        **{f"{kind}_cut_s": max(seconds) for kind, seconds in cuts.items() if seconds},
        "ulimit": "" if _room() >= _wanted() else f"{_room()} connections, not {_wanted()}: ulimit -n",
    }
    return Found(
        runs=len(waves),
        events=good.acknowledged.total(),
        lost=of.lost,
        doubled=of.doubled,
        phantom=of.phantom,
        recovery_s=[of.recovery],
        notes=told,
    )


def _wanted() -> int:
    return sum(SLOW.values()) + sum(IDLE.values())


def _room() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE


def _wave(up: Up, pid: int, seconds: float) -> Wave:
    crowd = SLOW | {"idle": min(IDLE["idle"], _room() - sum(SLOW.values()))}
    words = [f"{kind}={count}" for kind, count in crowd.items()]
    command = [sys.executable, "-m", "tests.faults.hostile_clients", str(up.settings.port), LOGIN, str(seconds), *words]
    watched = Watched(pid)
    watched.start()
    said = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout.splitlines()
    watched.end()
    grown = watched.most.mb - watched.before.mb
    return Wave(sum(crowd.values()), json.loads(said[-1]), grown, watched.most.files)


def _cut(waves: Sequence[Wave], kind: str) -> list[float]:
    return [seconds for wave in waves for seconds, _ in wave.told[kind]["ended"]]


def _check(waves: Sequence[Wave], good: Steady) -> None:
    """Raises AssertionError with what was expected and what came."""
    for wave in waves:
        told = wave.told
        for kind, limit in (("head", HEAD_SECONDS), ("body", BODY_SECONDS), ("chunks", BODY_SECONDS)):
            for seconds, status in told[kind]["ended"]:
                assert status == 408, f"expected 408 for a slow {kind}, got {status} after {seconds:.1f} s"
                assert limit - 1 <= seconds <= limit + SLACK, f"expected a {kind} to be cut at {limit} s, got {seconds}"
        assert told["head"]["ended"], "expected slow headers to be cut"
        idle = wave.asked - sum(SLOW.values())
        standing = told["idle"]["standing"]
        assert standing >= 0.99 * idle, f"expected {idle} idle connections to be let be, {standing} stand"
        most = MB + KB_A_CONNECTION * wave.asked / 1024
        assert wave.grown_mb < most, f"expected the API to grow by less than {most:.0f} MB, got {wave.grown_mb:.0f}"
    assert set(good.refused) <= {503}, f"expected good batches to be answered, got {good.refused}"


def _until_files(pid: int, most: int) -> None:
    """Until connections that were left are closed on our side too."""
    deadline = time.monotonic() + 30
    while (files := weight(pid).files) > most:
        assert time.monotonic() < deadline, f"expected at most {most} files to stay open, got {files}"
        time.sleep(0.1)
