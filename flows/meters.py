"""What an engine has done since it started, by partition."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from feature_repo.declare import Array


class Meters:
    """Totals by name: an array with one element a partition, as long as the highest partition met so far."""

    def __init__(self) -> None:
        self.totals: dict[str, Array] = {}

    def count(self, name: str, partitions: Array) -> None:
        """One more for each of these partitions, as often as it stands here."""
        self._add(name, np.bincount(partitions))

    @contextmanager
    def timed(self, name: str, partitions: Array) -> Iterator[None]:
        """The seconds within, shared out by how much of the work is each partition's."""
        start = time.perf_counter()
        yield
        if len(partitions):
            share = np.bincount(partitions) / len(partitions)
            self._add(name, share * (time.perf_counter() - start))

    def by_field(self) -> dict[str, float]:
        """`name@partition` -> total."""
        return {f"{name}@{p}": float(n) for name, total in list(self.totals.items()) for p, n in enumerate(total)}

    def _add(self, name: str, more: Array) -> None:
        total = self.totals.get(name, np.zeros(0))
        length = max(len(total), len(more))
        self.totals[name] = np.pad(total, (0, length - len(total))) + np.pad(more, (0, length - len(more)))
