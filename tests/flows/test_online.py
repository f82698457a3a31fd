"""What the engine keeps of the values in Redis: exactly or not at all, and so it never leaves out what differs."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flows.online import Online

VALUES = st.floats(width=64, allow_nan=True, allow_infinity=False)


def online_of_one() -> tuple[Online, np.ndarray[Any, Any]]:
    """A row that was just taken."""
    online, row = Online(1, 1), np.array([0])
    online.forget(row)
    return online, row


@given(before=VALUES, after=VALUES)
def test_what_differs_is_written(before: float, after: float) -> None:
    """Whatever stood there; NaN is null, and as a value is like any other."""
    online, row = online_of_one()
    online.write(row, np.array([[before]]))
    changed = online.write(row, np.array([[after]]))
    same = before == after or (np.isnan(before) and np.isnan(after))
    assert same or changed[0, 0]


@given(value=st.integers(-(2**24), 2**24) | st.just(float("nan")))
def test_counts_and_nulls_are_not_written_twice(value: float) -> None:
    online, row = online_of_one()
    assert online.write(row, np.array([[value]], float))[0, 0]
    assert not online.write(row, np.array([[value]], float))[0, 0]


def test_what_was_forgotten_is_written_again() -> None:
    online, row = Online(2, 2), np.array([1])
    online.begin(row, np.array([0.0, 1.0]))
    assert online.known.tolist() == [False, True]
    assert not online.write(row, np.array([[0.0, 1.0]])).any()
    online.forget(row)
    assert not online.known.any()
    assert online.write(row, np.array([[0.0, 1.0]])).all()
