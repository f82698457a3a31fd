"""The feature values in Redis, as far as the engine knows: what has to be written is what differs from them."""

from __future__ import annotations

import numpy as np

from feature_repo.declare import Array


class Online:
    """A row a person, which is forgotten before it is first used. `known`: whether their hash is there as we wrote it.

    Kept in 32 bits, which counts and zeros fit exactly; a value that does not is not kept, and written each time.
    """

    def __init__(self, capacity: int, features: int) -> None:
        self.known = np.zeros(capacity, bool)
        self._values = np.zeros((capacity, features), np.float32)  # NaN: not kept; inf: null

    def begin(self, rows: Array, values: Array) -> None:
        """People whose hash holds these, float64 (n, features) or (features,) of all of them, NaN = null."""
        self.known[rows] = True
        self._values[rows] = _kept(_told(values))

    def forget(self, rows: Array) -> None:
        self.known[rows] = False
        self._values[rows] = np.nan

    def write(self, rows: Array, values: Array) -> Array:
        """Which of these are to be written, bool (n, features). values float64 (n, features), NaN = null."""
        told = _told(values)
        changed: Array = self._values[rows] != told  # compared in 64 bits, and NaN differs from everything
        self.known[rows] = True
        self._values[rows] = _kept(told)
        return changed


def _told(values: Array) -> Array:
    nulls = np.isnan(values)
    return np.where(nulls, np.inf, values) if nulls.any() else values


def _kept(values: Array) -> Array:
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    narrow[narrow != values] = np.nan
    return narrow
