"""A home on a file system of its own, that is full for a while."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.faults.found import Found, Lacking
from tests.faults.judge import verdict
from tests.faults.ledger import GIVE_UP_S
from tests.faults.site import Site
from tests.faults.trouble import Trouble, missing

SIZE_MB = 96
PIECE = 1 << 20
FULL_S = 4.0


@contextmanager
def tmpfs(place: Path) -> Iterator[None]:
    """A small one, mounted there. Raises Lacking."""
    if sys.platform != "linux" or os.geteuid() or not shutil.which("mount"):
        raise Lacking("mounting a tmpfs needs Linux and root")
    place.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "tmpfs", str(place)]
    if (done := subprocess.run(mount, capture_output=True, text=True, check=False)).returncode:
        raise Lacking(f"no tmpfs can be mounted: {done.stderr.strip()}")
    try:
        yield
    finally:
        _unmount(place)


def _unmount(place: Path) -> None:
    """As soon as nobody has a file open there any more; lazily, when that does not come."""
    for _ in range(50):
        if subprocess.run(["umount", str(place)], capture_output=True, check=False).returncode == 0:
            return
        time.sleep(0.1)
    subprocess.run(["umount", "-l", str(place)], check=True)


def full(budget: float, dice: random.Random, place: Path) -> Found:
    """Again and again no byte is left for some seconds, under load; all recovers by itself."""
    if lacks := missing():
        raise Lacking(lacks)
    with tmpfs(place / "home"):
        site = Site(place, dice.getrandbits(30), Trouble(place))
        try:
            return _filled_again(site, dice, time.monotonic() + budget)
        finally:
            site.close()


def _filled_again(site: Site, dice: random.Random, until: float) -> Found:
    found = Found()
    site.start()
    site.write()
    while not found.runs or time.monotonic() < until:
        site.let_through(100)
        failing = _filled(site, FULL_S + 2 * dice.random())
        at = time.monotonic()
        site.recovered(GIVE_UP_S)
        found.recovery_s.append(time.monotonic() - at)
        found.runs += 1
        found.notes["seconds_without_answer"] = round(
            float(found.notes.get("seconds_without_answer", 0.0)) + failing, 1
        )
    site.rest()
    now = verdict(site)
    found.events, found.lost, found.doubled, found.phantom = (
        now.events, len(now.lost), len(now.doubled), len(now.phantom)
    )  # fmt: skip
    assert now.clean, str(now)
    return found


def _filled(site: Site, seconds: float) -> float:
    """Everything that gets free is taken at once, for so long; returns for how long nothing was acknowledged."""
    ballast, until, failing = site.settings.home / "ballast", time.monotonic() + seconds, 0.0
    with ballast.open("wb", buffering=0) as file:
        while time.monotonic() < until:
            before, at = len(site.ledger), time.monotonic()
            _fill(file.fileno())
            time.sleep(0.05)
            failing += (time.monotonic() - at) * (len(site.ledger) == before)
    ballast.unlink()
    return failing


def _fill(file: int) -> None:
    piece = PIECE
    while piece:
        with suppress(OSError):
            if os.write(file, bytes(piece)) == piece:
                continue
        piece //= 2
