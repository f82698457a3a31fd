"""A feature that is new is null until it is right; `telltale backfill --load` makes it right while the stream runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
import redis

from feature_repo.settings import Settings
from flows.lake_read import LakeReader
from flows.plan import Plan
from tests.flows import streams_made as made
from tests.training import eras_made as eras
from tests.training.eras_made import (
    BUY,
    DAY,
    MORE,
    MOST,
    OLD,
    OTHER,
    START,
    TOUR,
    VIEW,
    VOCABULARIES,
    Call,
    domain,
    random_calls,
)
from tests.training.stands import Stand, call, command
from training.backfill import features
from training.consistency import Consistency
from training.load import Load
from training.past import NotReadable, read


@pytest.fixture
def stand(client: redis.Redis, settings: Settings) -> Iterator[Stand]:
    stand = Stand(client, msgspec.structs.replace(settings, cache_users=16))
    yield stand
    stand.stop()


def test_a_new_feature_is_null_for_those_before_it_and_no_other_is(stand: Stand) -> None:
    """Whoever was known before has no value in it; whoever begins after it has; older features go on."""
    stand.turn(OLD)
    stand.post(call(1, "view", START), call(2, "buy", START))
    stand.drain()
    stand.turn(MORE)
    stand.post(call(3, "view", START + 1), call(4, "view", START + 1, "u2"))
    stand.drain()
    old, new = stand.found("u1")[0], stand.found("u2")[0]
    assert {name for name, x in old.items() if x is None} == {
        "views_30d",
        "views_6h",
        "first_view_30d",
        "spent_30d",
        "tours_30d",
        "size",
    }
    assert (old["views_7d"], old["buys_30d"], old["any_30d"]) == (2, 1, 3)
    assert (new["views_30d"], new["tours_30d"], new["size"]) == (1, 0, 0)


def test_a_load_fills_it(stand: Stand) -> None:
    """After a load the person has what a store has that always had today's vocabulary; a second load does nothing."""
    stand.turn(OLD)
    stand.post(call(1, "view", START), call(2, "tour", START), call(3, "buy", START, price=2.5, kind="big"))
    stand.drain()
    stand.turn(MOST)
    stand.post(call(4, "view", START + 9 * DAY))
    stand.drain()
    assert stand.load().loaded == 1
    found = stand.found("u1")[0]
    assert (found["views_30d"], found["tours_30d"], found["spent_30d"], found["any_30d"]) == (2, 1, 2.5, 4)
    assert stand.wrong() == {}
    assert stand.load().loaded == 0
    assert stand.wrong() == {}


def test_a_load_serves_what_state_holds_already(stand: Stand) -> None:
    """Another window of what was counted: of somebody silent, who would wait for their tick; others are left alone."""
    stand.turn(domain((VIEW,), ("views_90d",)))
    stand.post(call(1, "view", START))
    stand.post(call(2, "view", START + 8 * DAY), call(3, "view", START + 8 * DAY, "u2"))
    stand.drain()
    stand.turn(domain((VIEW,), ("views_7d", "views_90d")))
    stand.post(call(4, "view", START + 8 * DAY, "u2"))
    stand.drain()
    assert stand.found("u1")[0]["views_7d"] is None
    assert stand.load().loaded == 1
    assert stand.found("u1")[0] == {"views_7d": 1, "views_90d": 2}
    assert stand.wrong() == {}
    assert stand.load().loaded == 0


@pytest.mark.parametrize("seed", range(8))
def test_whatever_changes_it_is_as_if_it_had_always_been(stand: Stand, seed: int) -> None:
    """Vocabularies that come and go, events during the load, kills, a lake in files: the bits of one vocabulary."""
    rng = np.random.default_rng(seed)
    calls = random_calls(rng, 400, 40, int(rng.choice([3, 30, 120])))
    order = [VOCABULARIES[name] for name in rng.choice(list(VOCABULARIES), 3)] + [(MOST, OTHER, MORE)[seed % 3]]
    at = 0
    for vocabulary in order:
        stand.turn(vocabulary)
        for _ in range(40):
            stand.post(calls[at], calls[at + 1]) if calls[at].now == calls[at + 1].now else stand.post(calls[at])
            at += 1
            if rng.random() < 0.1:
                stand.step()
            if rng.random() < 0.05:
                stand.turn(vocabulary)
        if rng.random() < 0.3:
            stand.drain()
            stand.load()
        if rng.random() < 0.5:
            stand.drain()
        if rng.random() < 0.3:
            stand.drain()
            stand.flush_lake()
    stand.drain()
    stand.load([each] for each in calls[at : at + 40])
    assert stand.wrong() == {}
    accounted = made.counts(stand.client, stand.store)
    assert accounted.pop("accepted") == sum(accounted.values()) == len(stand.calls)


@pytest.mark.parametrize("seed", range(4))
def test_a_value_that_is_there_is_right(stand: Stand, seed: int) -> None:
    """Features come and go without a load: each is right or null, and right again once its window has passed."""
    rng, names = np.random.default_rng(seed), [name for name in eras.OF if name not in {"size", "new_plan"}]
    calls = [each for each in random_calls(rng, 500, 20, 60) if each.event is not None]
    nulls = values = 0
    for part in range(5):
        some = tuple(name for name in names if rng.random() < 0.6)
        stand.turn(eras.domain((VIEW, BUY, TOUR), some))
        for each in calls[part * 70 : part * 70 + 70]:
            stand.post(each)
            if rng.random() < 0.1:
                stand.step()
        made.pass_time(stand.client, stand.store, stand.calls[-1].now)  # everybody is refreshed once a day
        stand.drain()
        assert stand.wrong(null=True) == {}
        found = [x for user in {each.user for each in stand.calls} for x in stand.found(user)[0].values()]
        nulls += found.count(None)
        values += len(found) - found.count(None)
    assert min(nulls, values) > 50


def test_training_rows_have_what_was_brought(stand: Stand) -> None:
    """Backfill reads events of a type that was unknown when they came, as a load does."""
    stand.turn(OLD)
    stand.post(call(1, "tour", START), call(2, "view", START), call(3, "tour", START, "u2"))
    stand.drain()
    stand.turn(MORE)
    stand.post(call(4, "view", START + 9 * DAY))
    stand.load()
    stand.flush_lake()
    of, users = read(stand.settings.lake, MORE)
    person = np.array([users["org/u1"], users["org/u2"]])
    at = np.array([stand.found(user)[1] for user in ("u1", "u2")])
    offline = features(Plan(MORE), of, person, at)
    assert offline.tolist() == [list(stand.found(user)[0].values()) for user in ("u1", "u2")]
    assert offline[1, MORE.feature_index["tours_30d"]] == 1


def test_what_was_brought_is_consistent(stand: Stand) -> None:
    """What is served after a load is what the lake's events make, unknown ones of before included."""
    stand.settings = msgspec.structs.replace(stand.settings, lake_features=1.0)
    stand.turn(OLD)
    stand.post(call(1, "tour", START), call(2, "view", START), call(3, "tour", START, "u2"))
    stand.drain()
    stand.turn(MORE)
    stand.post(call(4, "view", START + DAY))
    stand.load()
    stand.post(call(5, "view", START + 2 * DAY), call(6, "view", START + 2 * DAY, "u2"))
    stand.drain()
    reader = LakeReader(stand.settings.lake, MORE, stand.store, stand.client)
    report = Consistency(reader, Plan(MORE), stand.store, 24).compare(100, 1)
    assert (report.differ, report.examples) == (0, [])
    assert report.rows > 2


def test_the_command_loads(stand: Stand, tmp_path: Path) -> None:
    """`telltale backfill --load` does it from outside, while the engine runs."""
    stand.turn(OLD)
    stand.post(call(1, "tour", START), call(2, "view", START))
    stand.drain()
    stand.turn(MORE)
    with command(stand, tmp_path) as job:
        while job.poll() is None:
            stand.step()
        assert job.stdout
        assert job.stdout.read() == "1 of 1 people lacked something of today's features, and have it now\n"
    stand.drain()
    assert stand.found("u1")[0]["tours_30d"] == 1


def test_a_load_that_was_killed_goes_on(stand: Stand, tmp_path: Path) -> None:
    """Killed with entries on their way, and run again before they were counted: each person gets their part once."""
    stand.turn(OLD)
    for n in range(60):
        stand.post(call(n + 1, ("tour", "view", "view")[n % 3], START + n, f"u{n % 20}"))
    stand.drain()
    stand.turn(MORE)
    stand.drain()
    before = stand.logged()
    with command(stand, tmp_path, "training") as job:
        stand.until_logged(before + 3, job)
        job.kill()
    with command(stand, tmp_path, "training") as job:
        stand.until_logged(before + 6, job)  # the engine has counted none of them
        while job.poll() is None:
            stand.step()
    stand.drain()
    assert stand.wrong() == {}


def test_a_window_that_has_passed_is_right_by_itself(stand: Stand) -> None:
    """Without a load a feature has a value again once all that its window holds was counted."""
    stand.turn(OLD)
    stand.post(call(1, "tour", START), call(2, "view", START))
    stand.drain()
    stand.turn(MORE)
    stand.post(call(3, "view", START + 29 * DAY))
    stand.drain()
    assert stand.found("u1")[0]["tours_30d"] is None
    stand.post(call(4, "view", START + 30 * DAY))
    stand.drain()
    assert stand.found("u1")[0]["tours_30d"] == 0
    assert stand.found("u1")[0]["views_30d"] == 2


def test_a_load_needs_an_engine_of_its_vocabulary(stand: Stand) -> None:
    """Before the engine ran with the new vocabulary there is nothing to load into."""
    stand.turn(OLD)
    with pytest.raises(NotReadable, match="start it"):
        Load(stand.settings, MORE, stand.client, stand.store)


@pytest.mark.parametrize("when", ["before", "between", "during"])
def test_what_an_anonymous_person_lacked_is_their_users(stand: Stand, when: str) -> None:
    """Joined before the change, after it, or while it is loaded: null until the user has the history of both."""
    stand.turn(OLD)
    stand.post(call(1, "tour", START, "anon:a"), call(2, "view", START, "anon:a"))
    stand.drain()

    def join(now: int) -> None:
        stand.join(now, "anon:a", "u1")
        stand.drain()
        stand.drain()  # what was passed on

    if when == "before":
        join(START + 1)
    stand.turn(MORE)
    stand.post(call(3, "view", START + DAY))
    if when == "between":
        join(START + DAY)
    stand.drain()
    assert (stand.found("u1")[0]["tours_30d"] is None) == (when != "during")
    stand.load()
    if when == "during":
        join(START + DAY)
    stand.drain()
    found = stand.found("u1")[0]
    assert (found["tours_30d"], found["views_30d"], found["views_7d"], found["any_30d"]) == (1, 2, 2, 3)


@pytest.mark.parametrize("seed", range(6))
def test_whoever_joins_whom_and_when(stand: Stand, seed: int) -> None:
    """Anonymous people of any era join users of any, some while they are loaded; late events follow them."""
    rng = np.random.default_rng(seed)
    calls = [each for each in random_calls(rng, 600, 30, int(rng.choice([3, 60]))) if each.event is not None]
    calls = [renamed(each) for each in calls]
    anonymous = [f"anon:{i}" for i in range(10, 20)]
    at = 0
    for vocabulary in (OLD, MORE, OTHER, MOST)[seed % 2 :]:
        stand.turn(vocabulary)
        for each in calls[at : at + 60]:
            stand.post(each)
            if rng.random() < 0.05 and anonymous:
                stand.join(each.now, anonymous.pop(), f"u{int(rng.integers(0, 8))}")
            if rng.random() < 0.1:
                stand.step()
        at += 60
        if rng.random() < 0.4:
            stand.drain()
            stand.load()
    stand.drain()

    def meanwhile() -> Iterator[list[Call]]:
        for each in calls[at : at + 60]:
            if rng.random() < 0.1 and anonymous:
                stand.join(each.now - 1, anonymous.pop(), f"u{int(rng.integers(0, 8))}")
            yield [each]

    stand.load(meanwhile())
    stand.drain()
    assert stand.wrong() == {}


def renamed(of: Call) -> Call:
    """Users from u10 on are anonymous."""
    return msgspec.structs.replace(of, user=f"anon:{of.user[1:]}") if int(of.user[1:]) >= 10 else of
