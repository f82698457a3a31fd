"""What windows hold of closed tiles. Tiles sorted by person, column and time make each window one stretch of the list,
so that a window costs two look-ups in running sums, however many tiles it has.
"""

from __future__ import annotations

import numpy as np

from feature_repo.declare import Array
from feature_repo.finish import DAY, HOUR
from flows import tiles
from flows.plan import DAYS, FIRST, MOMENT, Plan


def needed(plan: Plan, now: Array, key: Array, owner: Array) -> Array:
    """Which tiles some window still holds; `owner`: index into `now` (ms)."""
    oldest = np.where(plan.hourly, now[:, None] // HOUR, now[:, None] // DAY) - plan.keep
    column, tile = key >> tiles.TILE, key & tiles.TILE_MASK
    return tile > oldest.reshape(-1)[owner * len(plan.keep) + column]


def of_windows(plan: Plan, now: Array, key: Array, amount: Array, owner: Array) -> Array:
    """int64 (len(now), windows), from tiles as `tiles.added_up` gives them; `owner`: index into `now` (ms)."""
    place = tiles.place(key, owner)
    starts = np.flatnonzero(tiles.differs(place >> tiles.TILE))  # of each person's tiles of a column
    at, window = plan.windows_of.expand(key[starts] >> tiles.TILE)
    start, end = starts[at], np.append(starts[1:], len(key))[at]
    who, column = owner[start], plan.window_column[window]
    length = plan.window_length[window]
    short = np.flatnonzero(length < plan.keep[column])
    today = now[who[short]] // plan.unit[column[short]]
    oldest = (place[start[short]] & ~tiles.TILE_MASK) | np.maximum(today - length[short] + 1, 0)
    start[short] = np.searchsorted(place, oldest)
    found = np.zeros(len(now) * len(plan.windows), np.int64)
    found[who * len(plan.windows) + window] = _held(plan.window_kind[window], start, end, key, amount)
    return found.reshape(len(now), -1)


def _held(kind: Array, start: Array, end: Array, key: Array, amount: Array) -> Array:
    """What stretches of tiles come to."""
    held = _between(amount, start, end)
    if kind.any():
        tile = key & tiles.TILE_MASK
        held = np.where(kind == DAYS, end - start, held)
        held = np.where(kind == MOMENT, _between(amount * tile, start, end), held)
        there = np.flatnonzero((kind == FIRST) & (start < end))
        held[kind == FIRST] = 0
        held[there] = tile[start[there]]
    return held


def _between(amount: Array, start: Array, end: Array) -> Array:
    running = np.concatenate(([0], np.cumsum(amount)))
    return running[end] - running[start]
