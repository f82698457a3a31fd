"""From window columns to feature values: small functions over columns, one element a person.

They use only operations that IEEE 754 rounds exactly, so that a row's value does not depend on how many
rows are worked beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import numpy as np

from feature_repo.declare import Array

Finish = Callable[..., Array]
HOUR = 3_600_000
DAY = 86_400_000
YEAR_DAYS = 365.25


def saturate(x: Array, half: Array | float) -> Array:
    """0 at 0, 1/2 at `half`, towards 1."""
    return x / (x + half)


def rate(now: Array, part: Array, whole: Array) -> Array:
    """part / whole within 0-1; 0 where there is no whole."""
    return np.minimum(part / np.maximum(whole, 1.0), 1.0)


def per_week(days: float) -> Finish:
    """Count over `days` -> count a week."""

    def per_week_(now: Array, count: Array) -> Array:
        return count * 7.0 / days

    return per_week_


def mean(now: Array, total: Array, count: Array) -> Array:
    return total / np.maximum(count, 1.0)


def days_since(never: float) -> Finish:
    """Days since a moment, at most `never`; `never` where there was none."""

    def days_since_(now: Array, at: Array) -> Array:
        passed = np.minimum(np.maximum(now - at, 0.0) / DAY, never)
        return np.where(at > 0, passed, never)

    return days_since_


def hours_since(never: float) -> Finish:
    def hours_since_(now: Array, at: Array) -> Array:
        passed = np.minimum(np.maximum(now - at, 0.0) / HOUR, never)
        return np.where(at > 0, passed, never)

    return hours_since_


def within_days(days: int) -> Finish:
    """1 where any of the moments is less than `days` ago."""

    def within_days_(now: Array, *moments: Array) -> Array:
        latest = reduce(np.maximum, moments)
        return ((latest > 0) & (now - latest < days * DAY)).astype(np.float64)

    return within_days_


def known(default: float) -> Finish:
    """A trait, or `default` while it was never told."""

    def known_(now: Array, value: Array) -> Array:
        return np.where(np.isnan(value), default, value)

    return known_


def years_since(now: Array, at: Array) -> Array:
    return np.where(np.isnan(at), 0.0, np.maximum(now - at, 0.0) / (DAY * YEAR_DAYS))


def equity(now: Array, value: Array, owed: Array) -> Array:
    """Value less debt; 0 while the value is unknown."""
    return np.where(np.isnan(value), 0.0, value - np.where(np.isnan(owed), 0.0, owed))


def loan_to_value(now: Array, value: Array, owed: Array) -> Array:
    """Debt / value, 0-2; 0 while either is unknown."""
    missing = np.isnan(value) | np.isnan(owed) | ~(value > 0)
    share = np.where(missing, 0.0, owed) / np.where(missing, 1.0, value)
    return np.minimum(np.maximum(share, 0.0), 2.0)


def slope(days: int) -> Finish:
    """Least-squares slope of the daily counts over the last `days` days, in events a day a day.

    With day numbers x = 0..n-1 the slope is sum((x - mean x) y) / sum((x - mean x)^2), and the
    denominator is n (n^2 - 1) / 12. `moment` carries absolute day numbers.
    """
    denominator = days * (days * days - 1) / 12.0

    def slope_(now: Array, moment: Array, count: Array) -> Array:
        today = np.floor(now / DAY)
        centre = today - (days - 1) / 2.0
        return (moment - centre * count) / denominator

    return slope_


def decline(now: Array, recent: Array, both: Array) -> Array:
    """How much less in the recent half than in the one before, -1 to 1; positive = falling."""
    before = both - recent
    return (before - recent) / np.maximum(both, 1.0)


def momentum(now: Array, acts: Array, sent: Array, acts_long: Array, sent_long: Array) -> Array:
    """Recent rate less the longer one: engagement rising (+) or falling (-), within -1 to 1."""
    return rate(now, acts, sent) - rate(now, acts_long, sent_long)


def mean_gap(never: float) -> Finish:
    """Mean days between active days, from the first one in the window and the latest event."""

    def mean_gap_(now: Array, first_day: Array, last: Array, days: Array) -> Array:
        span = np.maximum(np.floor(last / DAY) - first_day, 0.0)
        return np.where(days >= 2, span / np.maximum(days - 1.0, 1.0), never)

    return mean_gap_


def diversity(now: Array, *counts: Array) -> Array:
    """How many of the counts are above zero."""
    return reduce(np.add, [(count > 0).astype(np.float64) for count in counts])


def add(now: Array, *values: Array) -> Array:
    return reduce(np.add, values)


def above(threshold: float) -> Finish:
    """How many of the values exceed `threshold`."""

    def above_(now: Array, *values: Array) -> Array:
        return reduce(np.add, [(value > threshold).astype(np.float64) for value in values])

    return above_
