"""History through the window code: many instants at once give what the stream would have given one by one."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from feature_repo.vocabulary import Vocabulary
from flows.plan import Plan
from flows.windows import Table
from training.backfill import Stream, features, stream
from training.dataset import Rows, Span, instants, known, label, rows
from training.records import DAY
from training.simulate import simulate

PEOPLE = 40
VOCABULARY = Vocabulary()
PLAN = Plan(VOCABULARY)


@pytest.fixture(scope="module")
def of() -> Stream:
    return stream(simulate(PEOPLE, 200, seed=11), VOCABULARY)


def one_by_one(of: Stream, person: int, at: int) -> np.ndarray:
    """A table of one person, to which each event and trait comes alone."""
    table = Table(PLAN, 4)
    row = table.rows(np.array([7], np.uint64))
    mine = np.flatnonzero((of.person == person) & (of.now <= at))
    for i in mine:
        table.apply(row, of.code[[i]], of.value[[i]], of.ts[[i]], of.now[[i]])
    for i in np.flatnonzero((of.trait_person == person) & (of.trait_now <= at)):
        table.apply_traits(row, of.trait[[i]], of.trait_bits[[i]], of.trait_ts[[i]])
    table.touch(row, np.array([at]))
    return table.evaluate(row)[0]


def test_rounds_equal_one_by_one(of: Stream) -> None:
    """Features of random instants, worked in rounds, are bit for bit those of one event at a time."""
    rng = np.random.default_rng(2)
    person = rng.integers(0, PEOPLE, 60)
    at = rng.integers(of.start, of.end, 60)
    found = features(PLAN, of, person, at)
    expected = np.array([one_by_one(of, int(p), int(t)) for p, t in zip(person, at, strict=True)])
    assert np.array_equal(found, expected)


def test_what_is_logged_later_is_not_known_yet(of: Stream) -> None:
    """An event that reached the log an hour after it happened counts from then on, and not before."""
    event = int(np.flatnonzero(of.code == VOCABULARY.code["session", None])[-1])
    now = of.now.copy()
    now[event] += 3_600_000
    late = msgspec.structs.replace(of, now=now)
    person, at = of.person[[event, event]], now[event] - np.array([1, 0])
    before, then = features(PLAN, late, person, at)[:, VOCABULARY.feature_index["session_count_30d"]]
    assert then == before + 1


def test_an_event_is_part_of_its_own_instant(of: Stream) -> None:
    """As of an event's own moment the event counts; a millisecond before it does not."""
    event = int(np.flatnonzero(of.code == VOCABULARY.code["session", None])[-1])
    person, at = of.person[[event, event]], of.ts[event] - np.array([1, 0])
    before, then = features(PLAN, of, person, at)[:, VOCABULARY.feature_index["session_count_30d"]]
    assert then == before + 1


def test_instants_are_events_and_daily_ticks(of: Stream) -> None:
    """The stream scores a person at each event and once a day, and at no other time."""
    person, at = instants(of, Span(100, 110), np.arange(PEOPLE))
    low = of.start + 100 * DAY
    events = {(int(p), int(t)) for p, t in zip(of.person, of.now, strict=True) if low <= t < low + 10 * DAY}
    found = set(zip(person.tolist(), at.tolist(), strict=True))
    assert events <= found
    assert len(found - events) == 10 * PEOPLE


def test_label_is_what_happens_within_the_horizon(of: Stream) -> None:
    """A row's label is true exactly if an outcome event follows within 90 days; its own instant does not count."""
    sample = rows(PLAN, of, Span(0, 110), np.arange(PEOPLE), 0.2, np.random.default_rng(1))
    for outcome in ("home_listed", "loan_refinanced"):
        acts = np.flatnonzero(of.code == VOCABULARY.code[outcome, None])
        expected = [
            bool(((of.person[acts] == p) & (of.now[acts] > t) & (of.now[acts] <= t + 90 * DAY)).any())
            for p, t in zip(sample.person, sample.at, strict=True)
        ]
        assert label(VOCABULARY, of, outcome, sample, 90).tolist() == expected


def test_unknown_labels_are_refused(of: Stream) -> None:
    """A row whose horizon is not over has no label: `known` says so, and `label` refuses it."""
    late = Rows(np.array([0]), np.array([of.end - 89 * DAY]), np.zeros((1, 45), np.float32), np.ones(1))
    assert not known(of, late.at, 90).any()
    with pytest.raises(ValueError, match="90 days or more before"):
        label(VOCABULARY, of, "home_listed", late, 90)
