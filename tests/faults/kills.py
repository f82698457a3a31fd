"""kill -9 of each process and of the store, alone and all at once, at random and at exact points."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterable
from contextlib import suppress

from tests.faults.mortal import POINTS, number
from tests.faults.site import Site

PROCESSES = {
    "api": "serving.app",
    "engine": "flows.alerting",
    "lake": "flows.lake",
    "alerts": "flows.alert_drain",
    "delivery": "flows.delivering",
    "learning": "flows.learning",
    "store": "valkey-server",
}


def kill(site: Site, dice: random.Random, names: Iterable[str]) -> float:
    """These, at a random moment."""
    time.sleep(dice.random() / 4)
    at = time.monotonic()
    for name in names:
        site.kill(PROCESSES[name])
    return at


def one_engine(site: Site, dice: random.Random) -> float:
    """Of the two, while the other goes on."""
    at = time.monotonic()
    with suppress(ProcessLookupError):
        os.kill(dice.choice(site.pids(PROCESSES["engine"])), signal.SIGKILL)
    return at


def some(site: Site, dice: random.Random) -> float:
    """Two or three, also while they start."""
    for _ in range(dice.choice([2, 3])):
        kill(site, dice, [dice.choice(list(PROCESSES))])
    return time.monotonic()


def everything(site: Site, dice: random.Random) -> float:
    """All at once, `telltale up` too, which somebody starts again."""
    time.sleep(dice.random() / 4)
    at = time.monotonic()
    site.vanish()
    site.begin()
    return at


def supervisor(site: Site, dice: random.Random) -> float:
    """`telltale up` itself, and with it all the others; somebody starts it again."""
    at = time.monotonic()
    site.kill("up")
    site.end()
    site.begin()
    return at


def point(site: Site, dice: random.Random, name: str) -> float:
    """Whoever comes to it; among the next few."""
    assert site.trouble is not None
    site.trouble.arm(number(name), dice.randint(1, 3))
    site.trouble.until_crossed()
    return time.monotonic()


def names() -> list[str]:
    return list(POINTS)
