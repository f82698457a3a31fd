"""The promise that training rests on: what the stream wrote is what the backfill computes, bit for bit."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from flows.plan import Plan
from tests.contracts.replayed import replayed
from training.backfill import features, stream
from training.feed import Feed, user
from training.simulate import simulate

PEOPLE, DAYS = 80, 120


def test_stream_equals_backfill(tmp_path: Path) -> None:
    """A simulated history through HTTP, log and engine leaves the features that training sees at that instant."""
    history = simulate(PEOPLE, DAYS, seed=5)
    feed = Feed(history, "history")
    calls = [msgspec.json.decode(call) for call in feed.calls(0, len(feed))]
    with replayed(tmp_path, "", calls) as run:
        online = run.features([user(person) for person in range(PEOPLE)])
        plan = Plan(run.vocabulary)
    offline = features(plan, stream(history, plan.vocabulary), np.arange(PEOPLE), online.pop("at").to_numpy())
    unlike = [name for i, name in enumerate(online) if online[name].to_numpy().tobytes() != offline[:, i].tobytes()]
    assert unlike == []
    assert (np.ptp(offline, axis=0) > 0).sum() > 40, "a history in which hardly anything happens proves little"
