"""How a trait's value becomes 64 bits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.declare import Trait
from feature_repo.moments import microseconds
from feature_repo.traits import MOST, bits, bits_of


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("number", "3"),
        ("number", True),
        ("number", 10**400),
        ("number", 1.1e30),
        ("number", -1.1e30),
        ("number", [1]),
        ("date", 5),
        ("date", "2020-13-01"),
    ],
)
def test_a_trait_that_is_not_what_it_should_be_is_refused(kind: str, value: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        bits(Trait(name="t", description="", kind=kind), value)  # type: ignore[arg-type]  # number or date


def test_a_number_of_a_trait_is_finite_to_a_model() -> None:
    """One at a time or many at once: training takes no infinite input, and one person's must not end it."""
    trait = Trait(name="n", description="")
    assert np.isfinite(np.float32(2 * MOST))  # twice: features take the difference of two
    assert bits_of(trait, [MOST, -MOST]) == [bits(trait, MOST), bits(trait, -MOST)]
    with pytest.raises(ValueError, match="at most 1e\\+30 either way, got -1e\\+31"):
        bits_of(trait, [1.0, -1e31])


def test_the_same_text_in_other_letters_has_the_same_fingerprint() -> None:
    """So that a trait changes only when its meaning does; structured ones are compared as a whole."""
    trait = Trait(name="address", description="", kind="text")
    assert bits(trait, " Elm St 1") == bits(trait, "elm st 1 ")
    assert bits(trait, {"a": 1, "b": 2}) == bits(trait, {"b": 2, "a": 1})
    assert bits(trait, {"a": 1}) != bits(trait, {"a": 2})
    assert 0 <= bits(trait, "x") < 1 << 63


def test_zero_has_one_spelling() -> None:
    """-0.0 and 0 are one value: nothing changed."""
    trait = Trait(name="n", description="")
    assert bits(trait, -0.0) == bits(trait, 0)


@given(since=st.integers(-(10**15), 10**16), zone=st.integers(-14 * 60, 14 * 60))
def test_moments_are_exact(since: int, zone: int) -> None:
    """Every microsecond, before 1970 too, in any zone."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=since)
    assert microseconds(moment.replace(tzinfo=None)) == since
    local = moment + timedelta(minutes=zone)
    assert microseconds(local.replace(tzinfo=UTC)) - since == zone * 60_000_000
