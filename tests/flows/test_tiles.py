"""Closed tiles: whatever was counted comes back from either form, exactly."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.finish import DAY, HOUR
from flows import tiles

UNITS = np.where(np.arange(256) % 3 == 0, HOUR, DAY)
NEWEST = 20_700 * 24  # hours since 1970
AMOUNTS = st.one_of(st.integers(1, 70_000), st.integers(-(2**62), 2**62)).filter(bool)
PERSON = st.dictionaries(st.tuples(st.integers(0, 255), st.integers(0, 89)), AMOUNTS, max_size=12)


def _columns(people: list[dict[tuple[int, int], int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(key, amount, owner), sorted: (column, tiles ago) -> amount of each person."""
    found = [
        (owner, (column << tiles.TILE) | (NEWEST * HOUR // int(UNITS[column]) - ago), amount)
        for owner, person in enumerate(people)
        for (column, ago), amount in person.items()
    ]
    owner, key, amount = np.array(sorted(found), np.int64).reshape(-1, 3).T
    return key, amount, owner


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(PERSON, max_size=6))
def test_what_is_kept_comes_back(people: list[dict[tuple[int, int], int]]) -> None:
    """Amounts of any size and sign, of people with many tiles and with none."""
    given_ = _columns(people)
    kept = tiles.pack(*given_, len(people), UNITS)
    assert [bool(packed) for packed in kept] == [bool(person) for person in people]
    for back, was in zip(tiles.unpack(kept, UNITS), given_, strict=True):
        assert back.tolist() == was.tolist()


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.dictionaries(st.tuples(st.integers(0, 255), st.integers(0, 89)), st.integers(1, 2**40)), max_size=4))
def test_what_is_stored_comes_back(people: list[dict[tuple[int, int], int]]) -> None:
    """An amount beyond 36 bits is several entries, which add up to it."""
    key, amount, owner = _columns(people)
    keys, parts, owners = tiles.read(tiles.write(key, amount, owner, len(people)))
    starts = np.flatnonzero(tiles.differs(keys) | tiles.differs(owners))
    sums = np.add.reduceat(parts, starts) if len(starts) else parts
    found = keys[starts].tolist(), sums.tolist(), owners[starts].tolist()
    assert found == (key.tolist(), amount.tolist(), owner.tolist())


def test_a_small_amount_takes_four_bytes() -> None:
    """So that more people fit into memory than with what is stored."""
    people = [{(column, ago): 1 for column in range(3) for ago in range(10)}]
    key, amount, owner = _columns(people)
    assert len(tiles.pack(key, amount, owner, 1, UNITS)[0]) == 8 + 4 * 30
    assert len(tiles.write(key, amount, owner, 1)[0]) == 8 * 30
