"""Every fault of the laboratory, a line each.

To add one: a function `(site, dice) -> moment when the trouble was over` and a line in `ON_A_SITE`, which share a
running Telltale; or a function `(budget in seconds, dice, empty directory) -> Found` and a line in `ALONE`, which
brings its own.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from tests.faults import backups, disks, kills, stalls, upgrades
from tests.faults.found import Found
from tests.faults.site import Site

OnSite: TypeAlias = Callable[[Site, random.Random], float]
Alone: TypeAlias = Callable[[float, random.Random, Path], Found]


def _killed(*names: str) -> OnSite:
    return lambda site, dice: kills.kill(site, dice, *names)


def _at(point: str) -> OnSite:
    return lambda site, dice: kills.point(site, dice, point)


def _stalled(name: str, seconds: float) -> OnSite:
    return lambda site, dice: stalls.stall(site, dice, name, seconds)


ON_A_SITE: dict[str, OnSite] = {
    **{f"kill -9: {name}": _killed(name) for name in kills.PROCESSES},
    "kill -9: engine and store": _killed("engine", "store"),
    "kill -9: some, also while they start": kills.some,
    "kill -9: all": kills.all_children,
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
    "clock jumps": stalls.clock_jumps,
    "poison: raises": stalls.raises,
    "poison: crashes": stalls.crashes,
}
ALONE: dict[str, Alone] = {
    "backup under load, restored": backups.under_load,
    "upgrade: one process after another": upgrades.one_after_another,
    "upgrade: the engine overtaken": upgrades.engine_overtaken,
    "upgrade: and back": upgrades.and_back,
    "upgrade: features more": upgrades.more_features,
    "upgrade: all at once, and back": upgrades.started_anew,
}
