"""Slices and folds by time: nothing of the later is decided within the earlier."""

from __future__ import annotations

import numpy as np
import pytest

from feature_repo.finish import DAY
from training import splits
from training.examples import Examples


def rows(person: list[int], days: list[int], label: list[bool] | None = None) -> Examples:
    n = len(person)
    told = np.zeros(n, bool) if label is None else np.array(label)
    return Examples(np.array(person), np.array(days) * DAY, np.zeros((n, 1), np.float32), np.ones(n), told)


def drawn(seed: int, number: int = 400) -> Examples:
    """People again and again within a year; labels by chance."""
    rng = np.random.default_rng(seed)
    person, at = rng.integers(0, 60, number), rng.integers(0, 365 * DAY, number)
    order = np.lexsort((at, person))
    label = rng.random(number) < 0.3
    return Examples(person[order], at[order], np.zeros((number, 1), np.float32), np.ones(number), label)


def indices(of: Examples, horizon_days: int, *, cases: bool = False) -> list[list[int]]:
    return [np.flatnonzero(part).tolist() for part in splits.masks(of, horizon_days, cases=cases)]


def test_slices_follow_each_other_with_a_gap() -> None:
    """A row whose label was decided within the next slice is in none."""
    of = rows([0] * 10, list(range(0, 100, 10)))
    assert indices(of, 20) == [[0, 1, 2, 3], [5, 6], [8, 9]]


def test_a_case_stays_in_the_slice_in_which_it_began() -> None:
    """However long it lasts: its rows share one outcome."""
    person = [i for i in range(10) for _ in range(2)]
    days = [i * 10 + extra for i in range(10) for extra in (0, 50)]
    parts = indices(rows(person, days), 30, cases=True)
    assert parts == [list(range(12)), list(range(12, 16)), list(range(16, 20))]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("horizon_days", [7, 30, 90])
def test_no_label_is_decided_within_a_later_slice(seed: int, horizon_days: int) -> None:
    """Of slices and folds alike: every later row comes a horizon or more after every earlier one; none is in two."""
    of = drawn(seed)
    train, between, later = splits.masks(of, horizon_days, cases=False)
    pairs = [(train, between), (between, later), *splits.folds(of.those(train), horizon_days, 3, cases=False)]
    for nth, (early, late) in enumerate(pairs):
        at = of.at if nth < 2 else of.those(train).at
        assert at[early].max() + horizon_days * DAY <= at[late].min()
    assert not (train & between).any()
    assert later.sum() == pytest.approx(0.2 * len(of), abs=2)


def test_folds_of_cases_keep_them_whole() -> None:
    """No case is learnt from and tried on."""
    of = drawn(1)
    found = splits.folds(of, 30, 3, cases=True)
    assert len(found) == 3
    for learn, trial in found:
        assert not set(of.person[learn]) & set(of.person[trial])


def test_folds_without_both_classes_are_left_out() -> None:
    """Nothing can be learnt from rows of one class, nor tried on them."""
    days = list(range(100))
    assert splits.folds(rows([0] * 100, days, [False] * 100), 5, 3, cases=False) == []
    mixed = [i > 60 and i % 3 == 0 for i in days]
    assert len(splits.folds(rows([0] * 100, days, mixed), 5, 3, cases=False)) == 1


def test_rows_of_one_instant_are_apart_by_people() -> None:
    """A file whose rows have no usable time is split by people, at random, the same each time."""
    of = rows([i // 2 for i in range(100)], [5] * 100)
    parts = splits.masks(of, 30, cases=False)
    assert sum(part.sum() for part in parts) == 100
    whose = [set(of.person[part]) for part in parts]
    assert not whose[0] & whose[1]
    assert not whose[1] & whose[2]
    assert len(whose[2]) == pytest.approx(10, abs=1)
    assert indices(of, 30) == indices(of, 30)
