"""Every fault of the laboratory, a line each.

To add one: a function `(site, dice) -> moment when the trouble was over` and a line in `ON_A_SITE`, which share a
running Telltale; or a function `(budget in seconds, dice, empty directory) -> Found` and a line in `ALONE`, which
brings its own.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from tests.faults import (
    backups,
    crowds,
    described,
    disks,
    fuzzed,
    kills,
    lost,
    malformed,
    small_disk,
    soak,
    stalls,
    stopped_engine,
    unread_answers,
    unread_streams,
    upgrades,
    versions,
)
from tests.faults.found import Found
from tests.faults.site import OnSite

Alone: TypeAlias = Callable[[float, random.Random, Path], Found]


SOAK = "soak: a fault every 30 s"


def _killed(*names: str) -> OnSite:
    return lambda site, dice: kills.kill(site, dice, names)


def _at(point: str) -> OnSite:
    return lambda site, dice: kills.point(site, dice, point)


def _stalled(name: str, seconds: float) -> OnSite:
    return lambda site, dice: stalls.stall(site, dice, name, seconds)


ON_A_SITE: dict[str, OnSite] = {
    "no fault: late, repeated, of the future, refused": lambda site, dice: time.monotonic(),
    **{f"kill -9: {name}": _killed(name) for name in kills.PROCESSES},
    "kill -9: one of two engines": kills.one_engine,
    "kill -9: engine and store": _killed("engine", "store"),
    "kill -9: some, also while they start": kills.some,
    "kill -9: all": kills.everything,
    "kill -9: supervisor": kills.supervisor,
    **{f"kill -9 at a point: {point}": _at(point) for point in kills.names()},
    "power loss": disks.power_loss,
    "disk: writes fail": disks.cannot_write,
    "disk: syncs fail": disks.cannot_sync,
    "disk: no space": disks.no_space,
    "disk: slow syncs": disks.slow_sync,
    "store out of memory": stalls.out_of_memory,
    "store out of memory, killed": stalls.restart_out_of_memory,
    "SQLite locked": stalls.database_locked,
    "stall: engine": _stalled("engine", 7.0),
    "stall: store": _stalled("store", 3.0),
    "stall: api": _stalled("api", 3.0),
    "stall: one of two engines, until its partitions moved": stalls.moved,
    "an engine joins, and goes": stalls.joins,
    "clock jumps": stalls.clock_jumps,
    "poison: raises": stalls.raises,
    "poison: crashes": stalls.crashes,
}
ALONE: dict[str, Alone] = {
    "lost: store emptied": lost.emptied,
    "lost: store restored older": lost.older,
    "lost: one partition restored older": lost.older_partition,
    "lost: log trimmed too far": lost.trimmed,
    "disk: full (a small tmpfs)": small_disk.full,
    "models: damaged versions": versions.damaged,
    "models: promotions and rollbacks": versions.swapped,
    "backup under load, restored": backups.under_load,
    "upgrade: one process after another": upgrades.one_after_another,
    "upgrade: the engine overtaken": upgrades.engine_overtaken,
    "upgrade: and back": upgrades.and_back,
    "upgrade: features more": upgrades.more_features,
    "upgrade: all at once, and back": upgrades.started_anew,
    "clients: 1,000 slow, 10,000 idle": crowds.run,
    "clients: answers unread": unread_answers.run,
    "clients: live streams unread": unread_streams.run,
    "input: malformed and oversized": malformed.run,
    "input: schemathesis, the whole API": described.run,
    "input: atheris": fuzzed.run,
    "slow consumer: the engine stands still, the store is small": stopped_engine.run,
    SOAK: soak.soak,
}

CUT = (  # what a short run makes: one of each kind
    "no fault: late, repeated, of the future, refused",
    "kill -9: api",
    "kill -9: engine",
    "kill -9: store",
    "kill -9: all",
    "kill -9: supervisor",
    "kill -9 at a point: api: between append and answer",
    "kill -9 at a point: engine: between state and position",
    "kill -9 at a point: engine: before alerts and position",
    "kill -9 at a point: drain: alert in SQL, still in the stream",
    "kill -9 at a point: lake: file written, before its position",
    "power loss",
    "disk: syncs fail",
    "disk: no space",
    "store out of memory",
    "SQLite locked",
    "stall: one of two engines, until its partitions moved",
    "an engine joins, and goes",
    "clock jumps",
    "poison: crashes",
    "lost: store emptied",
    "disk: full (a small tmpfs)",
)
