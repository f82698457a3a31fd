"""What is pushed moves the stream's features and the training data's alike, bit for bit."""

from __future__ import annotations

import contextlib
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import redis

from feature_repo import keys
from feature_repo.settings import Settings
from flows import push
from flows.partition import entry_id
from flows.plan import Plan
from flows.store import connect, embedded, open_store
from tests.contracts.replayed import Replay
from tests.flows.both_sides import VOCABULARY
from tests.live import ORGANISATION, Live, live, worker
from training.backfill import features
from training.past import past

START, HOUR = 1_772_445_600_000, 3_600_000
USERS = [f"u{i}" for i in range(12)]
PATIENCE = 60.0


def test_after_pushes_the_stream_equals_the_past_in_the_lake(tmp_path: Path) -> None:
    """Among events and identifies: newer and older values than those known, nulls, rows for the lake alone, repeats."""
    settings = Settings(home=tmp_path, partitions=2, clock="log", lake_seconds=1)
    server = embedded(tmp_path)
    try:
        with live(settings) as api, contextlib.closing(connect(settings)) as client, worker(settings, "flows.alerting"):
            _happen(api)
            online = Replay(client, open_store(client), VOCABULARY).features(USERS)
            with worker(settings, "flows.lake"):
                _until_kept(client)
    finally:
        server.stop()
    of = past(settings.lake, VOCABULARY)
    people = {name: i for i, name in enumerate(of.names.to_pylist())}
    person = np.array([people[f"{ORGANISATION}/{user}"] for user in USERS])
    offline = features(Plan(VOCABULARY), of.stream, person, online.pop("at").to_numpy())
    assert online.to_numpy().tobytes() == offline.tobytes()
    equity = online["estimated_equity"].to_numpy()
    assert len(np.unique(equity)) == len(USERS), "were nothing told, this would prove little"


def _happen(api: Live) -> None:
    rng = random.Random(3)
    for hour in range(30):
        now = START + hour * HOUR
        for user in USERS:
            _told(api, rng, user, now)
    for i, user in enumerate(USERS):
        assert _push(api, user, START + 31 * HOUR, 100_000.0 + i, 1.0) == 200, "the engine did not work it"


def _told(api: Live, rng: random.Random, user: str, now: int) -> None:
    """What comes of a user in an hour."""
    at = now - rng.choice([0, 0, HOUR // 2, 40 * HOUR])
    match rng.choice(["nothing", "event", "identify", "push", "push", "null", "offline"]):
        case "event":
            _call(api, type="track", userId=user, event="Property Value Checked", timestamp=push.moment(now * 1000))
        case "identify":
            traits = {"property_value": rng.randrange(10**6)}
            _call(api, type="identify", userId=user, traits=traits, timestamp=push.moment(at * 1000))
        case "push":
            _push(api, user, at, rng.random() * 1e6, rng.random() * 1e5)
        case "null":
            _push(api, user, now, None, rng.random() * 1e5)
        case "offline":
            _push(api, user, now, -1.0, 1e9, to="offline")
        case _:
            pass


def _call(api: Live, **call: Any) -> None:
    answer = api.post("/v1/batch", {"batch": [call]})
    assert answer.status == 200, answer.body


def _push(api: Live, user: str, at: int, value: float | None, debt: float, to: str = "online") -> int:
    columns = {"credit_enquiries_90d": [1], "home_value": [value], "mortgage_balance": [debt]}
    df = {"user_id": [user], "event_timestamp": [push.moment(at * 1000)], **columns}
    answer = api.post("/push", {"push_source_name": "user_finances_push", "df": df, "to": to})
    assert answer.status in (200, 202), answer.body  # 202: the engine is only starting
    return answer.status


def _until_kept(client: redis.Redis) -> None:
    deadline = time.monotonic() + PATIENCE
    for p in range(open_store(client).partitions):
        last: Any = client.xrevrange(keys.log(p), count=1)
        while entry_id(client.get(keys.lake_position(p)) or b"0-0") < entry_id(last[0][0]):
            assert time.monotonic() < deadline
            time.sleep(0.05)
