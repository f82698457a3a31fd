"""Shares, sums and means with intervals of 95 %, in closed form."""

from __future__ import annotations

import math

import msgspec

Z = 1.959963984540054  # of the normal distribution, 95 % two-sided


class Share(msgspec.Struct, frozen=True):
    """`share` of `of`, 0-1; null where there are none. `low`, `high`: Wilson's interval, which holds for few, too."""

    share: float | None
    low: float | None
    high: float | None
    of: int


class Amount(msgspec.Struct, frozen=True):
    """A sum or mean over `of`; null where there are none. `low`, `high`: normal interval; null for fewer than two."""

    amount: float | None
    low: float | None
    high: float | None
    of: int


def share(part: float, of: float) -> Share:
    """`part` of `of`, both whole."""
    part, n = round(part), round(of)
    if n <= 0:
        return Share(None, None, None, 0)
    p, slack = part / n, Z * Z / n
    middle = (p + slack / 2) / (1 + slack)
    half = Z / (1 + slack) * math.sqrt(p * (1 - p) / n + slack / (4 * n))
    return Share(p, min(p, max(0.0, middle - half)), max(p, min(1.0, middle + half)), n)


def mean(total: float, squares: float, of: float) -> Amount:
    """From the sum and the sum of squares of what cannot be negative."""
    n = round(of)
    if n <= 0:
        return Amount(None, None, None, 0)
    middle = total / n
    half = _error(total, squares, n) / n
    return Amount(middle, None, None, n) if n == 1 else Amount(middle, max(0.0, middle - half), middle + half, n)


def total(sum_: float, squares: float, of: float) -> Amount:
    """The same of the sum itself, as of `of` drawn from many."""
    n = round(of)
    half = _error(sum_, squares, n)
    return Amount(sum_, None, None, n) if n <= 1 else Amount(sum_, sum_ - half, sum_ + half, n)


def _error(sum_: float, squares: float, n: int) -> float:
    """Half the interval of a sum of `n`."""
    if n <= 1:
        return 0.0
    variance = max(0.0, squares - sum_ * sum_ / n) / (n - 1)
    return Z * math.sqrt(variance * n)
