"""Fault: clients send many requests at once and read no answer, while good events come in."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.faults.crowds import LOGIN
from tests.faults.found import Found
from tests.faults.steady import Steady, Watched, account, whole
from tests.live import ROOT
from tests.running_up import Up

CLIENTS, FLOODING = 200, 20
WAVE = 10.0  # seconds that they stay
MB_A_CLIENT, MB = 1.0, 100.0  # that the API may grow by: an answer, requests not yet looked at, and buffers


def run(budget: float, dice: random.Random, home: Path) -> Found:
    """Waves of them as long as there is time; the second finds the API no larger than the first left it."""
    with closing(whole(home)) as up:
        (pid,) = up.pids("serving.app")
        good, watched = Steady(up.settings, dice.getrandbits(32)), Watched(pid)
        good.start()
        watched.start()
        began, waves, grown = time.monotonic(), 0, list[float]()
        while not waves or time.monotonic() - began + WAVE + 10 < budget - 10:
            _check(_wave(up))
            waves, grown = waves + 1, [*grown, watched.most.mb - watched.before.mb]
        good.end()
        after = watched.end()
        found = account(up.settings, good)
    most = MB + MB_A_CLIENT * CLIENTS
    assert grown[-1] < most, f"expected the API to grow by less than {most:.0f} MB, got {grown}"
    assert not good.refused, f"expected good batches to be stored at once, got {good.refused}"
    return Found(
        runs=waves,
        events=good.acknowledged.total(),
        lost=found.lost,
        doubled=found.doubled,
        phantom=found.phantom,
        recovery_s=[found.recovery],
        notes={
            "clients": float(CLIENTS),
            "grown_mb": grown[-1],
            "grown_mb_at_first": grown[0],
            "after_mb": after.mb - watched.before.mb,
            "good_p99_ms": good.milliseconds(99),
        },
    )


def _check(told: dict[str, Any]) -> None:
    standing, flooded = told["pipeline"]["standing"], told["flood"]["ended"]
    assert standing == CLIENTS, f"expected {CLIENTS} clients to wait for their answers, {standing} did"
    assert flooded, "expected who asks ten thousand times at once to be refused"
    statuses = {status for _, status in flooded}
    assert statuses <= {303, 401, 429}, f"expected 429, or the first request's answer, got {statuses}"


def _wave(up: Up) -> dict[str, Any]:
    words = [str(up.settings.port), LOGIN, str(WAVE), f"pipeline={CLIENTS}", f"flood={FLOODING}"]
    command = [sys.executable, "-m", "tests.faults.hostile_clients", *words]
    said = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout.splitlines()
    told: dict[str, Any] = json.loads(said[-1])
    return told
