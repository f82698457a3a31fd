"""Outcome events reach their stream once, whatever is killed when; none of imported history."""

from __future__ import annotations

import numpy as np
import pytest
import redis

from feature_repo import keys
from flows import outcome_events
from flows.outcome_events import OutcomeEvent
from tests.flows import streams_made as made
from tests.flows.both_sides import VOCABULARY
from tests.flows.ground import ACCESS, Ground, event, live
from tests.flows.streams_made import DAY, START

LISTED = VOCABULARY.code["home_listed", None]


def told(client: redis.Redis, partitions: int = 4) -> list[OutcomeEvent]:
    entries = [fields for p in range(partitions) for _, fields in client.xrange(keys.outcomes(p))]
    return [event for fields in entries for event in outcome_events.decode(fields)]


def test_an_outcome_is_told_with_its_times(ground: Ground, client: redis.Redis) -> None:
    """What is no outcome, or comes again, is not."""
    engine = ground.engine()
    listed = event("ann", START + 5, 1, LISTED, ts=START + 3)
    ground.post(event("ann", START + 1, 0, ACCESS), listed)
    ground.post(event("ann", START + 9, 1, LISTED))
    made.drain(engine)
    assert told(client) == [OutcomeEvent("org/ann", "home_listed", START + 3, START + 5)]


def test_imported_history_tells_nothing(ground: Ground, client: redis.Redis) -> None:
    """It is known already; nor does what is too late for any window."""
    engine = ground.engine()
    ground.post(event("ann", START, 1, LISTED), history=True)
    ground.post(event("ann", START + 1, 2, LISTED, ts=START - 200 * DAY))
    made.drain(engine)
    assert told(client) == []


def test_what_somebody_anonymous_did_is_the_users(ground: Ground, client: redis.Redis) -> None:
    """Once they are identified."""
    engine = ground.engine()
    ground.post(event("anon:1", START, 1, LISTED))
    made.drain(engine)
    made.join(client, ground.store, VOCABULARY, "anon:1", "ann", START + 1)
    ground.post(event("anon:1", START + 2, 2, LISTED))
    made.drain(engine)
    assert [found.person for found in told(client)] == ["org/anon:1", "org/ann"]


@pytest.mark.parametrize("seed", range(3))
def test_each_is_told_once_whatever_happens(ground: Ground, client: redis.Redis, seed: int) -> None:
    """Engines that die, stall and come back."""
    rng = np.random.default_rng(seed)
    engine, expected = ground.engine(), []
    for n in range(40):
        user, code = f"u{rng.integers(6)}", [ACCESS, LISTED][int(rng.random() < 0.4)]
        ground.post(event(user, START + n, n, code))
        expected += [OutcomeEvent(f"org/{user}", "home_listed", START + n, START + n)] * (code == LISTED)
        engine = live(ground, rng, engine)
    made.drain(engine)
    assert sorted(told(client), key=lambda e: e.ts) == expected


def test_nobody_comes_so_the_oldest_go_and_are_counted(ground: Ground, client: redis.Redis) -> None:
    """The store has room for other things."""
    engine = ground.engine()
    for n in range(100):
        ground.post(event("ann", START + n, n, LISTED))
        made.drain(engine)
    p = next(p for p in range(4) if client.xlen(keys.outcomes(p)))
    dropped = outcome_events.bound(client, p, 5_000)
    left = told(client)
    assert dropped == int(client.get(keys.outcomes_dropped(p)) or 0) > 0
    assert len(left) == 100 - dropped
    assert left[-1].ts == START + 99


def test_what_is_not_ours_is_named() -> None:
    """Somebody else wrote to the stream."""
    with pytest.raises(ValueError, match="expected outcome events"):
        outcome_events.decode({b"o": b"[[1]]"})
