"""Fault: the engine stands still (SIGSTOP) while events come in and the store is small: 503 before any harm.

The store refuses nobody, and when the engine goes on, all that was acknowledged is counted once.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import redis

from flows.store import connect
from tests.faults.found import Found
from tests.faults.steady import PATIENCE, Steady, account, whole
from tests.running_up import Up

MB = 1 << 20
STORE = 64 * MB  # `maxmemory`
WRITERS, PADDING = 3, 8_000  # and bytes of each event, which compress to half
REFUSED = 50  # answers of 503 that are waited for, each time


class Filling(threading.Thread):
    """Looks at the store again and again: how full it was at most."""

    def __init__(self, client: redis.Redis) -> None:
        super().__init__(daemon=True)
        self._client, self._ending, self.most = client, threading.Event(), 0

    def run(self) -> None:
        while not self._ending.wait(0.1):
            found: Any = self._client.info("memory")
            self.most = max(self.most, int(found["used_memory"]))

    def end(self) -> None:
        self._ending.set()
        self.join()


def run(budget: float, dice: random.Random, home: Path) -> Found:
    """Stops it as often as there is time for, once at least."""
    with closing(whole(home)) as up, closing(connect(up.settings)) as client:
        client.config_set("maxmemory", STORE)
        filling, writers = (
            Filling(client),
            [Steady(up.settings, dice.getrandbits(32), 0.0, PADDING) for _ in range(WRITERS)],
        )
        for thread in (filling, *writers):
            thread.start()
        began, recovery = time.monotonic(), list[float]()
        while not recovery or (time.monotonic() - began) * (1 + 1 / len(recovery)) < budget - 10:
            with _stopped(up):
                _until_refused(writers)
            recovery.append(_until_taken(writers))
        for writer in writers:
            writer.end()
        filling.end()
        found = account(up.settings, *writers)
        refusals: Any = client.info("errorstats")
        _check(writers, refusals)
    return Found(
        runs=len(recovery),
        events=sum(writer.acknowledged.total() for writer in writers),
        lost=found.lost,
        doubled=found.doubled,
        phantom=found.phantom,
        recovery_s=recovery,
        notes={
            "store_mb": STORE / MB,
            "store_mb_used_at_most": filling.most / MB,
            "answers_503": float(sum(writer.refused[503] for writer in writers)),
            "drained_s": found.recovery,
        },
    )


def _check(writers: list[Steady], refusals: dict[str, Any]) -> None:
    oom = refusals.get("errorstat_OOM")
    assert oom is None, f"expected the store to refuse nobody, got {oom}"
    hasty = sum(writer.hasty for writer in writers)
    assert not hasty, f"expected Retry-After with each 503, {hasty} had none"


@contextmanager
def _stopped(up: Up) -> Iterator[None]:
    engines = up.pids("flows.alerting")
    for pid in engines:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in engines:
            os.kill(pid, signal.SIGCONT)


def _until_refused(writers: list[Steady]) -> None:
    begun, deadline = _refusals(writers), time.monotonic() + PATIENCE
    while _refusals(writers) - begun < REFUSED:
        assert time.monotonic() < deadline, "expected 503 before the store is full"
        time.sleep(0.05)


def _until_taken(writers: list[Steady]) -> float:
    """Seconds until each of them was acknowledged something again."""
    began, before = time.monotonic(), [writer.acknowledged.total() for writer in writers]
    while any(writer.acknowledged.total() == count for writer, count in zip(writers, before, strict=True)):
        assert time.monotonic() - began < PATIENCE, "expected events to be taken again once the engine went on"
        time.sleep(0.05)
    return time.monotonic() - began


def _refusals(writers: list[Steady]) -> int:
    return sum(writer.refused[503] for writer in writers)
