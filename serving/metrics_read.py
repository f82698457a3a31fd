"""The few numbers of /metrics that the terminal shows."""

from __future__ import annotations

import re

import msgspec


class Meters(msgspec.Struct, frozen=True):
    """Events accepted, and those of them not yet worked, over all partitions."""

    accepted: int = 0
    lag: int = 0

    @property
    def worked(self) -> int:
        return self.accepted - self.lag


def read_meters(text: str) -> Meters:
    """From Prometheus' text format. Unknown lines are passed over, missing ones count as 0."""
    return Meters(
        int(sum(values(text, "telltale_events_accepted_total"))),
        int(sum(values(text, "telltale_events_lag"))),
    )


def values(text: str, name: str) -> list[float]:
    """The values of all series of a metric."""
    lines = (line for line in text.splitlines() if line.startswith((f"{name} ", f"{name}{{")))
    return [float(line.rpartition(" ")[2]) for line in lines]


def by_engine(text: str, name: str) -> dict[str, float]:
    """The sum of a metric's series of each engine."""
    found: dict[str, float] = {}
    for engine, value in re.findall(rf'^{name}{{engine="((?:[^"\\]|\\.)*)".* (\S+)$', text, re.MULTILINE):
        found[engine] = found.get(engine, 0.0) + float(value)
    return found
