"""Rows apart by time: to learn from, to calibrate on, to judge by, and folds to try settings on.

Between the end of one slice and the start of the next lies the label's horizon, so that no label of the one is
decided within the other. A case keeps all its rows, in the slice in which it began.
"""

from __future__ import annotations

import msgspec
import numpy as np
from sklearn.model_selection import TimeSeriesSplit

from feature_repo.finish import DAY
from training.examples import Examples
from training.people import Array

HELD_OUT = 0.2  # of the rows (or cases), the last ones
BETWEEN = 0.25  # of those before


class Slices(msgspec.Struct, frozen=True):
    """`held`: sets to judge by; the first is the later time that gates go by."""

    train: Examples
    between: Examples
    held: dict[str, Examples]

    @property
    def later(self) -> Examples:
        return next(iter(self.held.values()))


def split(of: Examples, horizon_days: int, *, cases: bool) -> Slices:
    """The last fifth by time to judge by, a slice before it for sigmoid and threshold, the earlier rows to train on."""
    train, between, later = masks(of, horizon_days, cases=cases)
    return Slices(of.those(train), of.those(between), {"later time": of.those(later)})


def masks(of: Examples, horizon_days: int, *, cases: bool) -> tuple[Array, Array, Array]:
    """(n,) bool each: to train, to calibrate, to judge."""
    when, gap = _moments(of, horizon_days, cases=cases)
    units = when[_first_rows(of)] if cases else when
    last = np.quantile(units, 1 - HELD_OUT, method="higher")
    before = _over(when, gap, last)
    earlier = units[_over(units, gap, last)]
    middle = np.quantile(earlier, 1 - BETWEEN, method="higher") if len(earlier) else last
    return before & _over(when, gap, middle), before & (when >= middle), when >= last


def folds(of: Examples, horizon_days: int, number: int, *, cases: bool) -> list[tuple[Array, Array]]:
    """(rows to learn from, rows to try on) of each, in time order; those that lack a class are left out."""
    when, gap = _moments(of, horizon_days, cases=cases)
    units = np.unique(when) if cases else np.sort(when)
    if len(units) <= number:
        return []
    found = []
    for _, tried in TimeSeriesSplit(number).split(units):
        since, until = units[tried[0]], units[tried[-1]]
        learn = np.flatnonzero(_over(when, gap, since))
        trial = np.flatnonzero((when >= since) & (when <= until))
        if of.those(learn).both and of.those(trial).both:
            found.append((learn, trial))
    return found


def timeless(of: Examples) -> bool:
    """Every row is of the same instant: they are apart by people drawn at random instead."""
    return len(of) > 0 and int(of.at.min()) == int(of.at.max())


def _moments(of: Examples, horizon_days: int, *, cases: bool) -> tuple[Array, int]:
    """When each row counts as: its instant, or its case's first; and how long until its label is decided, in ms."""
    if timeless(of):
        return np.random.default_rng(len(of)).permutation(int(of.person.max()) + 1)[of.person], 0
    if not cases:
        return of.at, horizon_days * DAY
    starts = np.full(int(of.person.max(initial=0)) + 1, np.iinfo(np.int64).max)
    np.minimum.at(starts, of.person, of.at)
    return starts[of.person], 0


def _over(when: Array, gap: int, by: int) -> Array:
    """What is decided by then: (n,) bool."""
    return when + gap <= by if gap else when < by


def _first_rows(of: Examples) -> Array:
    return np.unique(of.person, return_index=True)[1]
