"""State, features and counts come back from the lake as they were, and the stream goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import redis

from feature_repo import keys
from feature_repo.settings import Settings
from flows import lake_predictions, lake_store, losses
from flows.alert import decode
from flows.alert_store import open_alerts
from flows.engine import Engine
from flows.high_mark import End, HighMark
from flows.lake_read import LakeReader
from flows.partition import entry_id
from flows.store import StoreError, create, dial, open_store
from onnx_models.session import Model
from tests.flows import streams_made as made
from tests.flows.both_sides import VOCABULARY
from tests.flows.made_models import logistic
from tests.flows.streams_made import DAY, START
from tests.flows.test_lake_predictions import SELL as SAME
from tests.flows.test_lake_predictions import predictions as made_predictions
from tests.flows.test_lake_predictions import send
from tests.live import environment
from tests.posted import iso, random_calls
from tests.training.lived import Run, lived
from training import rebuild
from training.rebuild import NotEmpty, Rebuild

Snapshot = dict[bytes, Any]
NEW = {b"tt:lake", b"tt:gauges", b"tt:feature_sets", b"tt:score_sets"}
SELL = next(s for s in VOCABULARY.services if s.alert == "LIKELY_TO_SELL")


@pytest.fixture
def run(client: redis.Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    monkeypatch.setattr(rebuild, "PIECE", 50)
    made_ = Run(client, settings)
    yield made_
    made_.engine.close()


def end(run: Run, now: int = 0) -> None:
    """Everything worked, everybody as of one moment (by default the log's end), all of it in the lake."""
    made.drain(run.engine)
    logs = [keys.log(p) for p in range(run.store.partitions)]
    ends = [run.client.xinfo_stream(log)["last-generated-id"] for log in logs if run.client.exists(log)]
    now = now or max(int(id_.partition(b"-")[0]) for id_ in ends)
    made.pass_time(run.client, run.store, now)
    made.drain(run.engine)
    with lake_store.claim(run.settings.lake, run.store):
        run.flush_lake()


def snapshot(client: redis.Redis) -> Snapshot:
    """Features, states, counts, who is refreshed when, which messages are remembered: bit for bit.

    Not the last scores: everybody is scored again within a day.
    """
    found: Snapshot = {}
    for key in client.scan_iter("*"):
        name = bytes(key)
        if name in NEW or any(part in name for part in (b"}:log", b":lease", b":epoch", b"lake", b"served", b"eras")):
            continue
        match client.type(key):
            case b"hash":
                found[name] = {field: value for field, value in client.hgetall(key).items() if field != b"_scores"}
            case b"set":
                found[name] = client.smembers(key)
            case b"zset":
                found[name] = client.zrange(key, 0, -1, withscores=True)
            case b"string" if not name.endswith(b":position"):
                found[name] = client.get(key)
    return found


def rebuilt(run: Run, step: Callable[[int], None] = lambda _: None, models: dict[str, Model] | None = None) -> None:
    whose = lake_store.identity(run.settings.lake)
    assert whose is not None
    job = Rebuild(run.settings, VOCABULARY, whose, run.client, lambda: dial(run.settings), models or {})
    job.begin()
    job.run(step)


def wipe(run: Run) -> None:
    """Redis is gone, and the engine with it."""
    made.kill(run.engine)
    run.client.flushall()


def go_on(run: Run, **more: Any) -> None:
    run.store = open_store(run.client)
    run.engine = made.engine(VOCABULARY, run.settings, run.store, run.client, **more)


@pytest.mark.parametrize("seed", range(2))  # four more below
def test_all_is_as_it_was(run: Run, seed: int) -> None:
    """Random lives with joins, repeats, late and unknown events, pushes: every byte of state, features and counts."""
    lived(run, seed, 300)
    run.push("user_finances", "u1", START + 60 * DAY, {"property_value": 9_000.0})
    run.push("lead_crm", "l1", START + 61 * DAY, {})
    end(run)
    before = snapshot(run.client)
    wipe(run)
    rebuilt(run)
    after = snapshot(run.client)
    assert after.keys() == before.keys()
    assert [name for name in before if before[name] != after[name]] == []
    go_on(run)


def test_the_lake_of_predictions_goes_on(run: Run) -> None:
    """What it had of them before stands, and what comes then is added."""
    lived(run, 5, 20)
    before, after = (made_predictions(SAME, 3, first) for first in (0, 3))
    send(run.client, before)
    lake_predictions.drain(run.settings.lake, run.client).take()
    end(run)
    wipe(run)
    rebuilt(run)
    drain = lake_predictions.drain(run.settings.lake, run.client)
    drain.recover()
    send(run.client, after)
    drain.take()
    found = LakeReader(run.settings.lake, VOCABULARY, open_store(run.client), run.client).predictions()
    assert sorted(found["prediction_id"].to_pylist()) == [*before.words.ids, *after.words.ids]
    go_on(run)


def test_counts_add_up(run: Run) -> None:
    """Accepted is processed, duplicate, unknown, late and quarantined: after a rebuild as before."""
    lived(run, 4, 150)
    end(run)
    wipe(run)
    rebuilt(run)
    counts = made.counts(run.client, run.store)
    assert counts["accepted"] == 150
    assert sum(n for name, n in counts.items() if name != "accepted") == 150
    go_on(run)


def test_what_the_lake_never_got_is_told_and_counted(run: Run) -> None:
    """Of all that was acknowledged; whoever rebuilds knows of it, so nothing is in the way of going on."""
    lived(run, 4, 150)
    run.push("lead_crm", "l1", START + 61 * DAY, {"source_quality": 0.5})
    end(run)
    late = {"type": "track", "userId": "u1", "event": "Document Viewed", "messageId": "late"}
    run.door.post(START + 62 * DAY, late | {"timestamp": iso(START + 62 * DAY)})
    accepted = [int(run.client.hget(keys.counts(p), "accepted") or 0) for p in range(2)]
    ends = [run.client.xinfo_stream(keys.log(p))["last-generated-id"] for p in range(2)]
    high = HighMark(run.settings, run.store)
    high.raise_to([End(count, entry_id(last)) for count, last in zip(accepted, ends, strict=True)])
    wipe(run)
    rebuilt(run)
    counts = made.counts(run.client, run.store)
    assert (counts["accepted"], counts["lost"]) == (152, 1)
    assert sum(n for name, n in counts.items() if name != "accepted") == 152
    assert losses.problems(run.client, run.settings, run.store) == []
    assert losses.opened(run.client, run.settings) == run.store
    go_on(run)


def features(run: Run) -> dict[str, dict[str, float | None]]:
    users = [f"{kind}{i}" for kind in ("u", "anon:v") for i in range(12)]
    return {user: made.features(run.client, VOCABULARY, user) for user in users}


def test_the_stream_goes_on(run: Run, settings: Settings, tmp_path: Path) -> None:
    """A store that was lost and rebuilt half-way ends like one that was not."""
    calls = random_calls(VOCABULARY, np.random.default_rng(11), 300, 12, START)
    _post_in_halves(run, calls)
    end(run, START + 62 * DAY)
    whole = features(run)
    wipe(run)
    second = Run(run.client, msgspec.structs.replace(settings, home=tmp_path / "second"))
    run.engine = second.engine  # for the fixture to close
    _post_in_halves(second, calls, lose=True)
    end(second, START + 62 * DAY)
    run.engine = second.engine
    assert features(second) == whole
    report = second.compared()
    assert (report.differ, report.left_out) == (0, 0)
    assert report.rows > 80


def _post_in_halves(run: Run, calls: list[Any], *, lose: bool = False) -> None:
    for now, call in calls[:150]:
        run.door.post(now, call)
    end(run)
    if lose:
        wipe(run)
        rebuilt(run)
        go_on(run)
    for now, call in calls[150:]:
        run.door.post(now, call)


class Killed(Exception):
    pass


@pytest.mark.parametrize("after", [1, 60, 140, 299])
def test_killed_half_way_it_goes_on(run: Run, after: int) -> None:
    """Begun again after a kill in any piece: the same bytes."""
    lived(run, 5, 300)
    end(run)
    before = snapshot(run.client)
    wipe(run)
    done = 0

    def die(rows: int) -> None:
        nonlocal done
        done += rows
        if done >= after:
            raise Killed

    with pytest.raises(Killed):
        rebuilt(run, die)
    with pytest.raises(StoreError, match="has not come to its end"):
        open_store(run.client)
    with pytest.raises(StoreError, match="has not come to its end"):
        create(run.client, run.settings)
    rebuilt(run)
    after_ = snapshot(run.client)
    assert [name for name in before if before[name] != after_.get(name)] == []
    go_on(run)


def test_what_was_not_passed_on_yet_is(run: Run) -> None:
    """The lake has an identified visitor's events, the log had not come to hand them over: the user has them."""
    view = {"type": "track", "event": "Document Viewed", "anonymousId": "v1", "timestamp": iso(START)}
    run.door.post(START, view | {"messageId": "m1"})
    join = {"type": "identify", "userId": "u1", "anonymousId": "v1", "messageId": "m2", "timestamp": iso(START)}
    run.door.post(START + 1, join)
    with lake_store.claim(run.settings.lake, run.store):
        run.flush_lake()
    wipe(run)
    rebuilt(run)
    assert made.features(run.client, VOCABULARY, "u1")["doc_access_count_30d"] == 1
    assert made.features(run.client, VOCABULARY, "anon:v1")["doc_access_count_30d"] == 0
    go_on(run)


def test_a_store_that_is_not_empty_is_refused(run: Run) -> None:
    """One line that says what to do, and nothing is touched."""
    lived(run, 6, 50)
    end(run)
    before = snapshot(run.client)
    with pytest.raises(NotEmpty, match="empty the database"):
        rebuilt(run)
    assert snapshot(run.client) == before


@pytest.fixture
def models(tmp_path: Path) -> dict[str, Model]:
    """One model, which answers above its threshold from five looks at a home's value on."""
    return {SELL.name: logistic(tmp_path / "models", SELL, "value_check_count_30d", slope=2, middle=5, threshold=0.7)}


def check(run: Run, user: str, now: int, times: int) -> None:
    for i in range(times):
        call = {"type": "track", "event": "Property Value Checked", "userId": user, "timestamp": iso(now)}
        run.door.post(now + i, call | {"messageId": f"{user}-{now}-{i}"})


def watched(run: Run, models: dict[str, Model]) -> Engine:
    made.kill(run.engine)
    run.engine = made.engine(VOCABULARY, run.settings, run.store, run.client, models=models)
    return run.engine


def test_episodes_stand_as_they_stood(run: Run, models: dict[str, Model]) -> None:
    """Alerts in SQL are not opened twice: open episodes are open, those that are over rest."""
    watched(run, models)
    check(run, "u1", START, 9)
    made.drain(run.engine)
    check(run, "u2", START + 35 * DAY, 9)
    end(run)
    fired = [decode(fields[b"a"]) for _, fields in run.client.xrange(keys.ALERTS)]
    assert [alert.user for alert in fired] == ["u1", "u2"]
    alerts = open_alerts(run.settings)
    alerts.insert(fired)
    alerts.close()
    run.client.delete(keys.ALERTS)
    before = snapshot(run.client)
    wipe(run)
    rebuilt(run, models=models)
    after = snapshot(run.client)
    assert [name for name in before if before[name] != after.get(name)] == []
    run.store = open_store(run.client)
    watched(run, models)
    check(run, "u1", START + 37 * DAY, 9)
    check(run, "u2", START + 38 * DAY, 9)
    made.drain(run.engine)
    again = [decode(fields[b"a"]).user for _, fields in run.client.xrange(keys.ALERTS)]
    assert again == ["u1"]


def test_the_command_survives_kills(run: Run) -> None:
    """`telltale rebuild`, killed at random moments and started again, brings back what was there."""
    lived(run, 7, 300)
    end(run)
    before = snapshot(run.client)
    wipe(run)
    command = [sys.executable, "-m", "serving.command", "rebuild"]
    for seconds in (1.2, 1.6, 2.0):
        process = subprocess.Popen(
            command, env=environment(run.settings), stdout=subprocess.DEVNULL, start_new_session=True
        )
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if run.client.exists(keys.REBUILDING) or not run.client.exists(keys.STORE):
        done = subprocess.run(command, env=environment(run.settings), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "rebuilt" in done.stdout
    after = snapshot(run.client)
    assert [name for name in before if before[name] != after.get(name)] == []
    done = subprocess.run(command, env=environment(run.settings), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "empty the database" in done.stderr
    go_on(run)
