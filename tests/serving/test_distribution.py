"""Distributions against numpy, and the drift between them against the formula."""

from __future__ import annotations

import math

import numpy as np
import pytest

from feature_repo.declare import Value
from serving.distribution import FEW, distribution, drift

RNG = np.random.default_rng(5)
NUMBERS = RNG.normal(10, 2, 3000)
NORMAL: list[Value | None] = NUMBERS.tolist()


def test_numbers_are_those_of_numpy() -> None:
    """Mean, deviation and quantiles, of the values that are there."""
    told = distribution([*NORMAL, None, None])
    assert told.mean == pytest.approx(np.mean(NUMBERS))
    assert told.deviation == pytest.approx(np.std(NUMBERS))
    assert told.quantiles["p99"] == pytest.approx(np.quantile(NUMBERS, 0.99))
    assert told.missing == pytest.approx(2 / 3002)


@pytest.mark.parametrize(
    "values",
    [NORMAL, [0.0] * 9, [1.0, 2.0], list(range(1000)), [0.0] * 990 + [5000.0] * 3, [0.5], RNG.poisson(3, 500).tolist()],
)
def test_every_value_stands_in_one_bar(values: list[Value | None]) -> None:
    """Also what lies beyond a long tail's cut, which is in the last."""
    found = distribution(values).histogram
    assert found is not None
    assert sum(found.counts) == len(values)
    assert len(found.edges) == len(found.counts) + 1 <= 25 + 1


def test_whole_numbers_share_bars_evenly() -> None:
    """As many of them in each, so that no bar is tall by its width alone."""
    found = distribution(list(range(48))).histogram
    assert found is not None
    assert set(found.counts) == {2}


def test_nothing_known_is_all_missing() -> None:
    """No numbers, no histogram."""
    told = distribution([None, None])
    assert (told.count, told.missing, told.mean, told.histogram) == (2, 1.0, None, None)


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_missing(odd: float) -> None:
    """A client of Redis may have written it."""
    told = distribution([1.0, odd])
    assert (told.missing, told.mean) == (0.5, 1.0)


def test_texts_are_counted_by_name() -> None:
    """Their shares; a new one later falls under others, and shows as drift."""
    told = distribution([*["web"] * 150, *["fair"] * 50, None])
    assert dict(zip(told.bins.names, told.bins.shares, strict=False)) == {"fair": 0.25, "web": 0.75}
    moved = drift(told, ["radio"] * 200)
    assert moved is not None
    assert (moved.after, moved.psi > 5) == ([0.0, 0.0, 1.0], True)


def test_the_same_again_has_not_drifted() -> None:
    """Another sample of one distribution: next to nothing."""
    found = drift(distribution(NORMAL), RNG.normal(10, 2, 3000).tolist())
    assert found is not None
    assert found.psi < 0.02


def test_drift_is_the_population_stability_index() -> None:
    """Half of the zeros become ones: shares 0.8, 0.2 then 0.4, 0.6."""
    before, after = [0.0] * 800 + [1.0] * 200, [0.0] * 400 + [1.0] * 600
    found = drift(distribution(before), after)
    assert found is not None
    assert found.psi == pytest.approx(-0.4 * math.log(0.4 / 0.8) + 0.4 * math.log(0.6 / 0.2), rel=1e-3)


def test_missing_values_are_no_drift_of_the_others() -> None:
    """They are told apart: how many then, how many since."""
    found = drift(distribution(NORMAL), [*NORMAL, *[None] * 3000])
    assert found is not None
    assert found.psi == pytest.approx(0.0)
    assert (found.missing_before, found.missing_after) == (0.0, 0.5)


@pytest.mark.parametrize(("before", "after"), [(FEW - 1, 1000), (1000, FEW - 1)])
def test_too_few_values_tell_no_drift(before: int, after: int) -> None:
    """Chance alone would show as drift."""
    assert drift(distribution([*NORMAL[:before], *[None] * 500]), NORMAL[:after]) is None
