"""Hours in minutes: a fault every half minute, memory and file handles flat, and soon as quick as before.

How quick: from an event's acknowledgement until its feature can be read, five times a second.
"""

from __future__ import annotations

import random
import statistics
import threading
import time
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import redis

from flows.resp import StoreError
from flows.running import connected
from serving.client import Closed, Door, Turned
from tests.faults import disks, kills, stalls
from tests.faults.found import Found
from tests.faults.judge import verdict
from tests.faults.kills import PROCESSES
from tests.faults.ledger import Client
from tests.faults.site import KEY, PARTITIONS, OnSite, Site
from tests.faults.trouble import Trouble
from tests.flows import streams_made as made
from tests.flows.both_sides import VOCABULARY

EVERY_S = 30.0
CALM_S = 5.0  # after a fault; from then on all is as it was
QUICK_S = 1.0  # that alerts leave within a second is the promise
GROWTH = 1.3  # of memory and handles, from the first third to the last
PROBE_S = 0.2
FAULTS: dict[str, OnSite] = {
    **{name: partial(kills.kill, names=(name,)) for name in PROCESSES},
    "some": kills.some,
    "all": kills.everything,
    "power": disks.power_loss,
    "syncs fail": disks.cannot_sync,
    "no space": disks.no_space,
    "slow syncs": disks.slow_sync,
    "memory": stalls.out_of_memory,
    "engine stalls": partial(stalls.stall, name="engine", seconds=7.0),
    "store stalls": partial(stalls.stall, name="store", seconds=2.0),
    "clock": stalls.clock_jumps,
}


class Prober(threading.Thread):
    """Asks again and again how long an event takes; `seconds`: (when it was acknowledged, how long)."""

    def __init__(self, site: Site) -> None:
        super().__init__(daemon=True, name="prober")
        self._site, self.seconds = site, list[tuple[float, float]]()
        self.ending = threading.Event()

    def run(self) -> None:
        while not self.ending.wait(PROBE_S):
            with (
                suppress(Closed, Turned, StoreError, redis.RedisError),
                closing(Door(self._site.settings, KEY, timeout=2.0)) as door,
                closing(connected(self._site.settings)) as client,
            ):
                while not self.ending.wait(PROBE_S):
                    self._ask(door, client)

    def _ask(self, door: Door, client: redis.Redis) -> None:
        call = self._site.probe(self._site.dice.randrange(PARTITIONS))
        if not Client(door, self._site.ledger, self._site.dice).once([call]):
            return
        at = time.monotonic()
        while made.features(client, VOCABULARY, call["userId"])["doc_access_count_30d"] != 1:
            if self.ending.wait(0.002):
                return
        self.seconds.append((at, time.monotonic() - at))


def soak(budget: float, dice: random.Random, place: Path) -> Found:
    """Until the budget is over."""
    site = Site(place, dice.getrandbits(32), Trouble(place))
    every = min(EVERY_S, max(budget / 4, 12.0))
    found, used, calm = Found(), list[tuple[float, int]](), list[tuple[float, float]]()
    with closing(site):
        site.start()
        site.write(writers=2, pause=0.1)
        prober = Prober(site)
        prober.start()
        until = time.monotonic() + budget
        while found.runs < 3 or time.monotonic() < until:
            began = time.monotonic()
            over = FAULTS[dice.choice(list(FAULTS))](site, dice)
            site.recovered()
            found.recovery_s.append(time.monotonic() - over)
            found.runs += 1
            time.sleep(max(began + every - time.monotonic(), CALM_S + 2))
            calm.append((over + CALM_S, time.monotonic()))
            used.append(_used(site))
        prober.ending.set()
        prober.join(10)
        site.rest()
        verdict(site).add_to(found)
    found.notes |= _flat(used) | _quick(prober.seconds, calm, found.recovery_s)
    return found


def _used(site: Site) -> tuple[float, int]:
    """(MB, file handles) of all processes but the store, which holds what there is."""
    megabytes, handles = 0.0, 0
    for name, what in PROCESSES.items():
        for pid in site.pids(what) if name != "store" else ():
            with suppress(OSError):  # it has just ended
                status = Path(f"/proc/{pid}/status").read_text()
                megabytes += int(status.partition("VmRSS:")[2].split()[0]) / 1024
                handles += sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    return megabytes, handles


def _flat(used: list[tuple[float, int]]) -> dict[str, float | str]:
    third = max(len(used) // 3, 1)
    first, last = used[:third], used[-third:]
    notes: dict[str, float | str] = {}
    for i, what in enumerate(("mb", "handles")):
        before, after = (statistics.median(each[i] for each in part) for part in (first, last))
        assert after <= GROWTH * before, f"{what} grew from {before:.0f} to {after:.0f} over {len(used)} faults"
        notes |= {f"{what}_first": round(before, 1), f"{what}_last": round(after, 1)}
    return notes


def _quick(
    seconds: list[tuple[float, float]], calm: list[tuple[float, float]], recovery: list[float]
) -> dict[str, float | str]:
    """p99 of what was asked while all should be well again."""
    asked = [took for at, took in seconds if any(low <= at <= high for low, high in calm)]
    assert len(asked) >= len(calm), "nothing was asked while all was well"
    p99 = statistics.quantiles([*asked, *asked], n=100, method="inclusive")[98]
    assert p99 < QUICK_S, f"expected a p99 below {QUICK_S:.0f} s from {CALM_S:.0f} s after each fault, got {p99:.2f} s"
    within = sum(took <= CALM_S for took in recovery) / len(recovery)
    return {"calm_p99_s": round(p99, 4), "within_5s": round(within, 3)}
