"""How the values of one feature are distributed, and how far that has moved since (PSI)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import isfinite

import msgspec
import numpy as np

from feature_repo.declare import Array, Value

BARS = 24
TAIL = 0.995  # quantile at which a long tail is cut off for the eye
FEW = 100  # values on either side below which a drift says nothing
LEAST_SHARE = 1e-4  # an empty bin counts as this much, so that PSI stays finite
QUANTILES = {"min": 0.0, "p1": 0.01, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p99": 0.99, "max": 1.0}
NAMES = 20  # texts told apart, the most frequent ones


class Histogram(msgspec.Struct):
    """`counts[i]` values from `edges[i]` to `edges[i + 1]`; the last one also holds what lies beyond."""

    edges: list[float]
    counts: list[int]


class Bins(msgspec.Struct):
    """Shares of the values, to compare by: those up to each cut and above the last; texts by name, then all others."""

    shares: list[float]
    cuts: list[float] = []
    names: list[str] = []


class Distribution(msgspec.Struct, kw_only=True):
    """Of `count` entities; `missing` is the share without a value. Numbers only where there are any."""

    count: int
    missing: float
    mean: float | None = None
    deviation: float | None = None
    quantiles: dict[str, float] = {}
    histogram: Histogram | None = None
    bins: Bins


class Drift(msgspec.Struct):
    """Population stability index over the reference's bins; shares of each then and since, and of missing values."""

    psi: float
    missing_before: float
    missing_after: float
    before: list[float]
    after: list[float]


def distribution(values: Sequence[Value | None]) -> Distribution:
    """Of one feature's values; None, and what is not finite, is missing. Texts go by name, numbers by deciles."""
    known = _known(values)
    told = Distribution(count=len(values), missing=_missing(values), bins=Bins([]))
    if any(isinstance(value, str) for value in known):
        names = sorted(name for name, _ in Counter(map(str, known)).most_common(NAMES))
        told.bins = _binned(known, [], names)
    elif known:
        numbers = np.array(known, float)
        told.bins = _binned(known, np.unique(np.quantile(numbers, np.arange(0.1, 1.0, 0.1))).tolist(), [])
        told.mean, told.deviation = float(numbers.mean()), float(numbers.std())
        told.quantiles = {name: float(np.quantile(numbers, q)) for name, q in QUANTILES.items()}
        told.histogram = _histogram(numbers)
    return told


def _known(values: Sequence[Value | None]) -> list[Value]:
    return [value for value in values if value is not None and (isinstance(value, str) or isfinite(value))]


def _missing(values: Sequence[Value | None]) -> float:
    return 1 - len(_known(values)) / len(values) if values else 1.0


def drift(before: Distribution, values: Sequence[Value | None]) -> Drift | None:
    """How far `values` have moved from an earlier distribution; None where either has too few of them to say."""
    known = _known(values)
    if min(before.count * (1 - before.missing), len(known)) < FEW:
        return None
    after = _binned(known, before.bins.cuts, before.bins.names).shares
    was, now = (np.maximum(shares, LEAST_SHARE) for shares in (before.bins.shares, after))
    psi = float(np.sum((now - was) * np.log(now / was)))
    return Drift(psi, before.missing, _missing(values), before.bins.shares, after)


def _binned(known: Sequence[Value], cuts: list[float], names: list[str]) -> Bins:
    if names:
        place = {name: i for i, name in enumerate(names)}
        index, bins = np.array([place.get(str(value), len(place)) for value in known], int), len(names) + 1
    else:
        numbers = np.array([value for value in known if not isinstance(value, str)], float)
        index, bins = np.searchsorted(cuts, numbers, side="left"), len(cuts) + 1
    counts = np.bincount(index, minlength=bins)
    return Bins((counts / max(len(index), 1)).tolist(), cuts, names)


def _histogram(numbers: Array) -> Histogram:
    low, high = float(numbers.min()), float(numbers.max())
    tail = float(np.quantile(numbers, TAIL))
    high = tail if tail - low > 0 and high - low > 2 * (tail - low) else high
    if np.array_equal(numbers, np.round(numbers)):
        step = -(-(high - low + 1) // BARS)  # whole numbers: as many of them in each bar
        edges = np.arange(low, high + step + 1, step) - 0.5
    else:
        edges = np.linspace(low, high, BARS + 1) if high > low else np.array([low - 0.5, low + 0.5])
    counts, _ = np.histogram(np.minimum(numbers, edges[-1]), edges)
    return Histogram(edges.tolist(), counts.tolist())
