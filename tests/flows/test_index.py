"""The hash tables against a dict and a set, after every call."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.index import Index, Seen

QUIET = settings(max_examples=120, deadline=None, derandomize=True, database=None)


@QUIET
@given(st.lists(st.tuples(st.booleans(), st.lists(st.integers(1, 60), min_size=1, max_size=20)), max_size=40))
def test_index_equals_dict(steps: list[tuple[bool, list[int]]]) -> None:
    """Whatever was inserted and removed, and however keys collide, look-ups answer as a dict does."""
    index, model = Index(64), dict[int, int]()
    free = list(range(64))
    for insert, ids in steps:
        wanted = [i << 40 for i in dict.fromkeys(ids) if (i << 40 in model) != insert]  # all share few slots
        uids = np.array(wanted, np.uint64)
        if insert:
            rows = [free.pop() for _ in wanted]
            model.update(zip(wanted, rows, strict=True))
            index.insert(uids, np.array(rows, np.int64))
        else:
            index.remove(uids)
            free += [model.pop(i) for i in wanted]
        everything = np.arange(62, dtype=np.uint64) << np.uint64(40)
        assert index.lookup(everything).tolist() == [model.get(i << 40, -1) for i in range(62)]


@QUIET
@given(
    st.lists(st.lists(st.tuples(st.integers(2, 30), st.integers(0, 900)), min_size=1, max_size=12), max_size=30),
    st.sampled_from([16, 64, 100_000]),
)
def test_seen_equals_set(calls: list[list[tuple[int, int]]], capacity: int) -> None:
    """A message is a duplicate exactly when it came within the horizon, however calls are cut.

    With too little room it may be forgotten, but only before `shortened_to`.
    """
    seen, model, minute, horizon = Seen(capacity, 1440), dict[int, int](), 30_000_000, 1440
    for call in calls:
        ids, minutes, expected = [], [], []
        for message, passed in call:
            minute += passed
            ids.append(message << 20)
            minutes.append(minute)
        found = seen.first(np.array(ids, np.uint64), np.array(minutes, np.int64)).tolist()
        for message, at, fresh in zip(ids, minutes, found, strict=True):
            before = model.get(message)
            expected.append(before is None or at - before > horizon)
            forgotten = before is not None and before < seen.shortened_to
            assert fresh == expected[-1] or (fresh and forgotten)
            if fresh:
                model[message] = at


def test_seen_remembers_each_partition_at_its_own_time() -> None:
    """A partition that is behind does not lose its memory because another is far ahead."""
    seen, rng = Seen(1_000_000, 1440), np.random.default_rng(1)
    behind = rng.integers(2, 1 << 63, 1000, np.uint64)
    assert seen.first(behind, np.full(1000, 1_000)).all()
    for _ in range(3):
        seen.first(rng.integers(2, 1 << 63, 100_000, np.uint64), np.full(100_000, 9_000))
    assert not seen.first(behind, np.full(1000, 1_010)).any()
