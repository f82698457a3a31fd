"""Who shares a store, and who works which of its partitions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from feature_repo import keys
from flows.housekeeping import Housekeeping
from flows.members import FORGET_MS, Member, engines, shares
from flows.names import named
from flows.partition import LEASE_MS
from flows.poison import Caution
from flows.stopping import Stop
from flows.store import dial
from tests.faults.engines import until
from tests.flows import streams_made as made
from tests.flows.ground import Ground, event
from tests.flows.streams_made import DAY, START

NAMES = st.sets(st.text(min_size=1, max_size=20), min_size=1, max_size=12)


@given(NAMES, st.integers(1, 64))
def test_each_partition_has_one_engine_and_none_has_two_more(names: set[str], partitions: int) -> None:
    found = shares(names, partitions)
    assert found.keys() == names
    assert sorted(p for mine in found.values() for p in mine) == list(range(partitions))
    assert max(map(len, found.values())) - min(map(len, found.values())) <= 1


@given(st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=12, unique=True), st.integers(1, 64))
def test_everybody_works_out_the_same(names: list[str], partitions: int) -> None:
    """In whatever order they were found."""
    assert shares(names, partitions) == shares(reversed(names), partitions)


def test_little_moves_when_one_goes() -> None:
    """Of sixteen partitions and five engines hardly more than what the one had; by rank nearly all would."""
    moved = least = 0
    for i in range(200):
        names = [f"host-{i}-{n}:/home" for n in range(5)]
        before, after = shares(names, 16), shares(names[:-1], 16)
        least += len(before[names[-1]])
        moved += sum(len(set(after[name]) - set(before[name])) for name in names[:-1])
    assert moved < 1.5 * least


class Members:
    """Engines of one store by their names, without an engine."""

    def __init__(self, client: redis.Redis) -> None:
        self.client, self.stopping = client, Stop()
        self.made: list[Member] = []

    def join(self, name: str, vocabulary: int = 1) -> list[int]:
        self.made.append(Member(self.client, name, vocabulary, 4))
        return self.made[-1].join(self.stopping)

    def owners(self) -> list[bytes | None]:
        return [self.client.get(keys.lease(p)) for p in range(4)]


@pytest.fixture
def members(client: redis.Redis) -> Iterator[Members]:
    found = Members(client)
    yield found
    for member in found.made:
        member.stop()


def test_one_alone_has_all(members: Members) -> None:
    assert members.join("a") == [0, 1, 2, 3]
    assert set(members.owners()) == {b"a"}


def test_after_a_kill_the_same_name_need_not_wait(members: Members) -> None:
    members.join("a")
    members.made[0].stop()
    assert members.join("a") == [0, 1, 2, 3]


def test_whoever_leaves_need_not_be_waited_for(members: Members) -> None:
    members.join("a")
    members.made[0].leave()
    assert members.join("b") == [0, 1, 2, 3]
    assert set(engines(members.client.hgetall(keys.ENGINES))) == {"b"}


def test_one_that_comes_has_what_is_free_of_its_share(members: Members) -> None:
    """What somebody else holds is left to them, and does not hold it up for ever."""
    mine = shares(["a", "b"], 4)["b"]
    members.client.set(keys.lease(mine[0]), "somebody")
    members.client.hset(keys.ENGINES, "a", f"{_now(members.client)} 1")
    assert members.join("b") == mine[1:]
    assert members.owners()[mine[0]] == b"somebody"


def test_the_dead_have_no_share_and_are_forgotten_at_last(members: Members) -> None:
    now = _now(members.client)
    members.client.hset(keys.ENGINES, mapping={"dead": f"{now - LEASE_MS} 1", "long dead": f"{now - FORGET_MS - 1} 1"})
    assert members.join("a") == [0, 1, 2, 3]
    assert set(engines(members.client.hgetall(keys.ENGINES))) == {"a", "dead"}


def test_engines_of_two_vocabularies_do_not_share(members: Members) -> None:
    """Who comes later waits until the others are stopped."""
    members.join("a", vocabulary=1)
    late = Member(members.client, "b", 2, 4)
    view = late.beat(())
    assert view.alive(2) == ["b"]
    assert late._may_have(view) == frozenset()
    members.made[0].leave()
    assert late._may_have(late.beat(())) == {0, 1, 2, 3}


def test_a_share_that_changes_is_noticed(members: Members) -> None:
    """When another comes, and when its share is free again; what is not free yet is no reason to begin anew."""
    members.join("a")
    (a,) = members.made
    b = Member(members.client, "b", 1, 4)
    b.beat(())
    until(lambda: a.moved)
    a.stop()
    mine = shares(["a", "b"], 4)
    again = Member(members.client, "a", 1, 4)
    members.made.append(again)
    assert again.join(members.stopping) == sorted(mine["a"])
    b.beat(mine["b"])
    assert not again.moved
    b.leave()
    until(lambda: again.moved)


def test_a_lost_lease_is_told(members: Members) -> None:
    members.join("a")
    members.client.set(keys.lease(2), "b")
    until(lambda: members.made[0].failed is not None)
    assert str(members.made[0].failed) == "partition 2: the lease is now 'b''s"


def test_names_differ_while_their_owners_live(tmp_path: Path) -> None:
    """The first that is free is taken, so whoever was killed has its own again."""
    with ExitStack() as stack:
        first, second = (stack.enter_context(named(tmp_path)) for _ in range(2))
        assert second == f"{first}:2"
    with named(tmp_path) as again:
        assert again == first


def test_time_passes_in_quiet_partitions_by_what_others_read(ground: Ground) -> None:
    """Where the log brings its time, the newest entry may be in a partition of another engine."""
    ground.post(*(event(f"u{i}", START + i, i) for i in range(8)))
    left, right = ground.engine(owner="a", partitions=[0, 1]), ground.engine(owner="b", partitions=[2, 3])
    made.drain(left)
    made.drain(right)
    right.counting.clock_ms, right.counting.history = START + DAY, True
    connection = dial(ground.settings)
    for engine in (right, left):
        ground.client.hset(keys.ENGINES, engine.owner, f"{_now(ground.client)} 1")
        keeping = Housekeeping(engine, ground.client, connection)
        keeping.stop()
        keeping._round(1)
        assert keeping._now() == (START + DAY, True)
    connection.close()


def test_deaths_are_told_by_partition(ground: Ground) -> None:
    """Whoever had it; one that goes on elsewhere changes nothing about them."""
    for life in range(7):  # each a process of its own
        caution = Caution()
        caution.begin(ground.engine(owner="a", partitions=[0, 1]), ground.client)
        assert caution.careful == (life > 4)
    other = Caution()
    other.begin(ground.engine(owner="b", partitions=[2, 3]), ground.client)
    assert not other.careful
    other.survived()
    ground.client.delete(keys.lease(0))
    heir = Caution()
    heir.begin(ground.engine(owner="b", partitions=[0]), ground.client)
    assert heir.careful


def test_whoever_looks_for_an_entry_leaves_word(ground: Ground) -> None:
    """A share that changes meanwhile does not begin the search anew."""
    ground.client.set(keys.deaths(0), 9)
    caution = Caution()
    caution.begin(ground.engine(owner="a", partitions=[0]), ground.client)
    caution.ended()
    assert ground.client.get(keys.deaths(0)) == b"10"
    caution.survived()
    caution.ended()
    assert not ground.client.exists(keys.deaths(0))


def _now(client: redis.Redis) -> int:
    seconds, micros = client.time()
    return int(seconds) * 1000 + int(micros) // 1000
