"""What a fault's runs found, and a row of the report."""

from __future__ import annotations

import statistics

import msgspec


class Lacking(Exception):
    """What a fault needs is not here."""


class Found(msgspec.Struct):
    """Of all runs of a fault. `recovery_s`: from when the trouble was over (a kill: at once) until all worked again.

    `notes`: figures of its own.
    """

    runs: int = 0
    events: int = 0
    lost: int = 0
    doubled: int = 0
    phantom: int = 0
    recovery_s: list[float] = []
    notes: dict[str, float | str] = {}


class Row(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A fault in `faults.json`. `broken`: the promise that did not hold, in words; `skipped`: what it lacks here."""

    fault: str
    runs: int
    events: int
    lost: int
    doubled: int
    phantom: int
    recovery_p50_s: float | None
    recovery_p99_s: float | None
    seed: int
    notes: dict[str, float | str] = {}
    broken: str = ""
    skipped: str = ""

    @property
    def holds(self) -> bool:
        return not (self.broken or self.lost or self.doubled or self.phantom)


def row(fault: str, seed: int, found: Found, *, broken: str = "", skipped: str = "") -> Row:
    return Row(
        fault=fault,
        runs=found.runs,
        events=found.events,
        lost=found.lost,
        doubled=found.doubled,
        phantom=found.phantom,
        recovery_p50_s=_at(found.recovery_s, 50),
        recovery_p99_s=_at(found.recovery_s, 99),
        seed=seed,
        notes=found.notes,
        broken=broken,
        skipped=skipped,
    )


def _at(values: list[float], percent: int) -> float | None:
    """None where nothing had to recover; of a single value that value."""
    if not values:
        return None
    found = statistics.quantiles([*values, *values], n=100, method="inclusive")[percent - 1]
    return round(found, 3)
