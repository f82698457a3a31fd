"""The promise that training rests on: what the stream wrote is what the backfill computes, bit for bit."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa

from feature_repo import keys
from feature_repo.settings import Settings
from flows.plan import Plan
from tests.contracts.replayed import PATIENCE, Replay, replayed
from tests.live import ORGANISATION
from tests.training.test_live import fill
from training.backfill import features, stream
from training.feed import Feed, user
from training.labels import Labels
from training.simulate import simulate
from training.training_set import Wanted, training_set

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


def test_training_sets_join_people_as_the_stream_does(tmp_path: Path) -> None:
    """Half the people are known only from a day on, and not always then: lake and file give what was served."""
    history = simulate(PEOPLE, DAYS, seed=6)
    feed = Feed(history, "joined")
    calls = _half_unknown([msgspec.json.decode(call) for call in feed.calls(0, len(feed))])
    (tmp_path / "history.jsonl").write_bytes(b"\n".join(map(msgspec.json.encode, calls)))
    people = [user(person) for person in range(PEOPLE)]
    with replayed(tmp_path, "", calls) as run:
        _settle(run)
        online = run.features(people)
        fill(Settings(home=tmp_path, partitions=4, clock="log"))
    moments = pa.array(online.pop("at").to_numpy(), pa.timestamp("ms", tz="UTC")).cast(pa.timestamp("us", tz="UTC"))
    asked = Labels(pa.table({"user": people, "as_of": moments}))
    for past in (tmp_path / "lake", tmp_path / "history.jsonl"):
        wanted = Wanted(history=past, vocabulary=run.vocabulary, organisation=ORGANISATION)
        offline = training_set(wanted, asked)[0].to_pandas().set_index("user")
        assert _unlike(online, offline) == [], past


def _half_unknown(calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every second user is anonymous for the first half of the calls, then identified, then anonymous at times."""
    found, known = [], set[str]()
    for i, call in enumerate(calls):
        who = call["userId"]
        if int(who[-1]) % 2:
            if i > len(calls) // 2 and who not in known:
                known.add(who)
                found.append(
                    {"type": "identify", "userId": who, "anonymousId": f"of-{who}", "timestamp": call["timestamp"]}
                    | {"messageId": f"join-{who}"}
                )
            if who not in known or i % 3 == 0:
                call = {**call, "anonymousId": f"of-{who}"}  # noqa: PLW2901  # the same call, from nobody
                del call["userId"]
        found.append(call)
    return found


def _settle(run: Replay) -> None:
    """Until nothing is on its way from one person to another."""
    deadline = time.monotonic() + PATIENCE
    while any(
        run.client.get(keys.position(p)) != run.client.xinfo_stream(keys.log(p))["last-generated-id"]
        for p in range(run.store.partitions)
    ):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _unlike(online: pd.DataFrame, offline: pd.DataFrame) -> list[str]:
    return [name for name in online if online[name].to_numpy().tobytes() != offline[name].to_numpy().tobytes()]
