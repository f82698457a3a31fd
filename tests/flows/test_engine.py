"""The engine over a real Valkey: whatever happens to it, Redis holds what a count from scratch gives."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from itertools import pairwise
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import msgspec
import numpy as np
import pytest
import redis

from feature_repo import domain, keys, layout
from feature_repo.settings import Settings
from feature_repo.vocabulary import SILENT, Vocabulary
from flows import running
from flows.alerting import dataflow
from flows.engine import Engine, Evaluated
from flows.entry import Draft
from flows.housekeeping import Housekeeping
from flows.partition import Fenced, LogBehind, Taken
from flows.plan import Plan
from flows.progress import Progress
from flows.state import identity, read_user
from flows.store import connect, create, dial
from flows.streams import Read
from flows.windows import Table
from tests.flows import streams_made as made
from tests.flows.both_sides import VOCABULARY, apply, receive, uid_of
from tests.flows.oracle import Oracle, unlike
from tests.flows.streams_made import DAY, START, Event

PLAN = Plan(VOCABULARY)
ACCESS = VOCABULARY.code["document_access", None]


class Ground:
    """A store, the engines over it, and what an oracle makes of all that was posted."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self.client, self.settings = client, settings
        self.store = create(client, settings)
        self.oracle = Oracle()
        self.events: list[Event] = []  # those that count
        self.engines: list[Engine] = []

    def engine(self, **more: Any) -> Engine:
        started = made.engine(VOCABULARY, self.settings, self.store, self.client, **more)
        self.engines.append(started)
        return started

    def post(self, *events: Event, history: bool = False) -> None:
        for event in made.post(self.client, self.store, VOCABULARY, list(events), history=history):
            if receive(self.oracle, event) in {"processed", "late"}:
                self.events.append(event)

    def pass_time(self, now: int, minutes: int = 1440) -> None:
        made.pass_time(self.client, self.store, now, minutes)

    def features(self, user: str) -> dict[str, float | None]:
        return made.features(self.client, VOCABULARY, user)

    def counts(self) -> dict[str, int]:
        return made.counts(self.client, self.store)

    def wrong(self) -> dict[str, Any]:
        """Whose features are not the oracle's, as of when they were written: user -> feature -> (found, expected)."""
        found = {}
        for user, person in self.oracle.people.items():
            at = made.feature_time(self.client, VOCABULARY, user)
            assert at >= person.now, f"{user} was last written as of {at}, happened {person.now}"
            person.pass_time(at)
            if off := unlike(self.features(user), person.features()):
                found[user] = off
        return found

    def offline(self) -> dict[str, bytes]:
        """Every user's features as the window code alone computes them, all events in one batch."""
        table = Table(PLAN, len(self.oracle.people) + 1)
        apply(table, self.events)
        users = {e.user for e in self.events}
        return {user: table.evaluate(self._at_last_write(table, user))[0].tobytes() for user in users}

    def _at_last_write(self, table: Table, user: str) -> Any:
        row = table.rows(np.array([uid_of(user)], np.uint64))
        table.touch(row, np.array([made.feature_time(self.client, VOCABULARY, user)]))
        return row

    def online(self) -> dict[str, bytes]:
        return {e.user: np.array(list(self.features(e.user).values()), float).tobytes() for e in self.events}


@pytest.fixture
def ground(client: redis.Redis, settings: Settings) -> Iterator[Ground]:
    """An empty store of four partitions, for an engine with little memory."""
    client.config_set("appendfsync", "no")  # nothing here is about the disk
    ground = Ground(client, msgspec.structs.replace(settings, cache_users=16))
    yield ground
    client.config_set("appendfsync", "always")
    for engine in ground.engines:
        made.kill(engine)


def _event(user: str, now: int, n: int, code: int = ACCESS, ts: int | None = None, value: int = 0) -> Event:
    return Event(user, code, value, now if ts is None else ts, now, n)


def _live(ground: Ground, rng: np.random.Generator, engine: Engine) -> Engine:
    """Something that may happen to an engine between two requests; returns the one that goes on."""
    match rng.choice(["wait", "turn", "turn", "count and die", "write and die", "write and stall", "restart"]):
        case "turn":
            for _ in range(rng.integers(1, 4)):
                made.step(engine)
            return engine
        case "count and die":
            made.step(engine, write=False)
            made.kill(engine)
        case "write and die":
            made.step(engine)
            made.kill(engine)
        case "write and stall":  # its writes may still arrive, late
            made.step(engine)
        case "restart":
            engine.close()
        case _:
            return engine
    return ground.engine()


@pytest.mark.parametrize("seed", range(6))
def test_redis_holds_what_offline_computes(ground: Ground, seed: int) -> None:
    """Late, shuffled, repeated, in any cut, evicted, killed anywhere: the bits of one go, and the oracle's values."""
    rng = np.random.default_rng(seed)
    events = made.random_events(VOCABULARY, rng, 700, 40, int(rng.choice([2, 20, 120])))
    engine, at = ground.engine(), 0
    while at < len(events):
        size = int(rng.choice([1, 3, 8]))
        ground.post(*events[at : at + size])
        at += size
        if rng.random() < 0.03:
            ground.pass_time(events[min(at, len(events)) - 1].now)
        engine = _live(ground, rng, engine)
    made.drain(engine)
    assert ground.online() == ground.offline()
    assert ground.wrong() == {}
    assert {name: n for name, n in ground.counts().items() if name != "accepted"} == {
        name: n for name, n in ground.oracle.outcomes.items() if n
    }


def test_all_that_was_accepted_is_accounted_for(ground: Ground) -> None:
    """accepted = processed + duplicate + unknown + late + quarantined, once the log is drained."""
    rng = np.random.default_rng(3)
    for event in made.random_events(VOCABULARY, rng, 300, 20, 30):
        ground.post(event)
    draft = Draft()
    draft.add(1, b"org/x", 5, START, ACCESS, 0, b"{}")
    draft.add(1, b"org/x", 6, START, ACCESS, 0, b"{}")
    draft.joins.append((draft.add(1, b"org/anon:x", 0, START), b"org/x"))
    fields: Any = {"e": draft.encode(123), "r": draft.encode_raw()}
    ground.client.xadd(keys.log(0), fields, id=f"{START + 100 * DAY}-*")
    ground.client.hincrby(keys.counts(0), "accepted", 2)
    made.drain(ground.engine())
    counts = ground.counts()
    assert counts.pop("accepted") == sum(counts.values()) == 302
    assert counts["quarantined"] == 2
    assert min(counts.values()) > 0


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"e": b"nonsense"}, "expected an entry of version 1"),
        ({"e": b"\x02" + bytes(39)}, "expected an entry of version 1"),
        ({"e": b"\x01" + bytes(60), "r": b"\x28\xb5\x2f\xfdnonsense"}, "expected 0 events"),
        ({"x": b"something else"}, "expected an entry of version 1"),
        ({"e": Draft().encode(7), "r": b"\xc1"}, "no codebook for vocabulary 7"),
    ],
)
def test_unreadable_entries_are_set_aside(ground: Ground, fields: Any, reason: str) -> None:
    """An entry that cannot be read is kept in tt:dead with its reason, and the ones after it count."""
    ground.post(_event("u1", START, 1))
    for p in range(ground.store.partitions):
        ground.client.xadd(keys.log(p), fields, id=f"{START}-*")
    ground.post(_event("u1", START + 1, 2))
    made.drain(ground.engine())
    dead = cast(list[tuple[bytes, dict[bytes, bytes]]], ground.client.xrange(keys.DEAD))
    assert len(dead) == ground.store.partitions
    assert all(reason in kept[b"reason"].decode() for _, kept in dead)
    assert all(kept[name.encode()] == value for _, kept in dead for name, value in fields.items())
    assert ground.features("u1")["doc_access_count_30d"] == 2


def test_entries_of_an_older_vocabulary_count(ground: Ground) -> None:
    """What was appended under another numbering of events and traits is read by names."""
    parts = {name: getattr(domain, name) for name in domain.__all__}
    parts |= {"EVENTS": domain.EVENTS[::-1], "TRAITS": domain.TRAITS[::-1]}
    older = Vocabulary(cast(ModuleType, SimpleNamespace(**parts)))
    ground.client.hset(keys.VOCABULARIES, str(older.fingerprint), older.codebook)
    traits = ((older.trait_id["property_count"], int(np.float64(3.0).view(np.int64))),)
    told = Event("u1", SILENT, 0, START, START, 1, traits)
    clicks = [_event("u1", START + i, i, older.code["email_click", "refinance"]) for i in range(2, 6)]
    made.post(ground.client, ground.store, older, [told, *clicks])
    ground.post(_event("u1", START + 9, 9))
    made.drain(ground.engine())
    found = ground.features("u1")
    assert (found["property_count"], found["refinance_email_clicks_90d"], found["doc_access_count_30d"]) == (3, 4, 1)


# -- owners


def _dump(client: redis.Redis) -> dict[bytes, Any]:
    leases = {key for p in range(4) for key in (keys.lease(p).encode(), keys.epoch(p).encode())}
    return {key: client.dump(key) for key in client.scan_iter(count=1000) if key not in leases}


def test_stalled_engine_that_wakes_late_changes_nothing(ground: Ground) -> None:
    """Once another has taken over, what a stalled engine still writes is refused, whole."""
    stalled = ground.engine()
    ground.post(*(_event(f"u{i}", START + i, i) for i in range(8)))
    made.step(stalled, write=False)
    heir = ground.engine()
    ground.post(_event("u1", START + 50, 50))
    made.drain(heir)
    before = _dump(ground.client)
    with pytest.raises(Fenced, match=r"epoch \d+ is over"):
        stalled.flush()
    assert _dump(ground.client) == before
    assert ground.wrong() == {}


def test_lease_keeps_others_out(ground: Ground) -> None:
    """While its owner lives, nobody else takes a partition; given back, it is free at once."""
    first = ground.engine(owner="first", partitions=[0, 1])
    with pytest.raises(Taken, match="held by b'first'"):
        ground.engine(owner="second", partitions=[1])
    first.close()
    ground.engine(owner="second", partitions=[1]).partitions[1].renew()


def test_lost_lease_is_noticed(ground: Ground) -> None:
    """An owner whose lease went to another is told so when it renews."""
    first = ground.engine(owner="first", partitions=[0])
    ground.client.delete(keys.lease(0))  # it expired while the owner stalled
    ground.engine(owner="second", partitions=[0])
    with pytest.raises(Fenced, match="the lease is now b'second'"):
        first.partitions[0].renew()


def test_partition_moves_between_engines(ground: Ground) -> None:
    """Partitions that move from engine to engine, killed or in good order, lose and repeat nothing."""
    rng = np.random.default_rng(5)
    events = made.random_events(VOCABULARY, rng, 400, 30, 40)
    left, right = ground.engine(owner="a", partitions=[0, 1, 2]), ground.engine(owner="b", partitions=[3])
    for at in range(0, len(events), 5):
        ground.post(*events[at : at + 5])
        made.step(left)
        made.step(right)
        if at == 150:
            made.step(left, write=False)
            left.close()
            left = ground.engine(owner="a", partitions=[0])
            made.kill(right)
            ground.client.delete(keys.lease(3))  # as its expiry would
            right = ground.engine(owner="b", partitions=[1, 2, 3])
    made.drain(left)
    made.drain(right)
    assert ground.online() == ground.offline()
    assert ground.wrong() == {}


def test_emptied_log_raises_an_alarm(ground: Ground) -> None:
    """A log that ends before the position of the state is refused, with what was expected and what came."""
    ground.post(*(_event(f"u{i}", START + i, i) for i in range(8)))
    engine = ground.engine()
    made.drain(engine)
    engine.close()
    for p in range(4):
        ground.client.delete(keys.log(p))
    with pytest.raises(LogBehind, match=rf"state stands at {START + 7}-0, the log ends at 0-0"):
        ground.engine()


def test_trimmed_log_is_no_alarm(ground: Ground) -> None:
    """A log whose entries were trimmed behind the position goes on."""
    ground.post(*(_event(f"u{i}", START + i, i) for i in range(8)))
    engine = ground.engine()
    made.drain(engine)
    engine.close()
    for p in range(4):
        ground.client.xtrim(keys.log(p), maxlen=0)
    ground.post(_event("u1", START + 9, 9))
    made.drain(ground.engine())
    assert ground.wrong() == {}


# -- time


def test_counts_fall_by_themselves(ground: Ground) -> None:
    """Without any event, a day's ticks let windows empty and mark everybody dormant, in memory or not."""
    for i in range(0, 120, 8):
        ground.post(*(_event(f"u{j % 40}", START + j, j) for j in range(i, i + 8)))
    engine = ground.engine()
    made.drain(engine)
    assert ground.features("u7")["doc_access_count_30d"] == 3
    for day in (1, 31, 400):
        ground.pass_time(START + day * DAY)
        made.drain(engine)
        assert ground.wrong() == {}
    found = ground.features("u7")
    assert (found["doc_access_count_30d"], found["days_since_doc_access"], found["hours_since_last_event"]) == (
        0,
        365,
        8760,
    )


def test_ticks_of_a_day_name_everybody_once(ground: Ground) -> None:
    """Each person is refreshed at one minute of the day."""
    ground.post(*(_event(f"u{i}", START + i, i) for i in range(8)))
    made.drain(ground.engine())
    sets = [ground.client.smembers(keys.slice_of(p, m)) for p in range(4) for m in range(1440)]
    members = [int(uid) % (1 << 64) for each in cast(list[set[bytes]], sets) for uid in each]
    assert sorted(members) == sorted(identity(ground.store, f"org/u{i}".encode()) for i in range(8))


def test_more_people_than_fit_are_refreshed(ground: Ground) -> None:
    """A tick that names more people than the engine keeps in memory refreshes them all."""
    for i in range(0, 160, 8):
        ground.post(*(_event(f"u{j}", START + j, j) for j in range(i, i + 8)))
    engine = ground.engine()
    made.drain(engine)
    ground.pass_time(START + 31 * DAY)
    made.drain(engine)
    assert {made.feature_time(ground.client, VOCABULARY, f"u{i}") for i in range(160)} == {START + 31 * DAY}
    assert ground.wrong() == {}
    assert len(engine.people.table) <= 16


def test_housekeeping_lets_time_pass(ground: Ground) -> None:
    """Where the log brings its own time, the minutes that pass in it are ticked in every partition."""
    ground.post(*(_event(f"u{i}", START + i, i) for i in range(8)))
    engine = ground.engine()
    made.drain(engine)
    keeping = Housekeeping(engine, ground.client, dial(ground.settings))
    keeping.stop()
    keeping._round(1)
    ground.post(_event("u1", START + 31 * DAY, 9))
    made.drain(engine)
    keeping._round(2)
    made.drain(engine)
    keeping._connection.close()
    assert keeping.failed is None
    assert ground.features("u1")["doc_access_count_30d"] == 1
    assert {ground.features(f"u{i}")["doc_access_count_30d"] for i in (0, 2, 3, 4, 5, 6, 7)} == {0}
    ticked = {int(cast(bytes, ground.client.get(keys.tick(p)))) for p in range(4)}
    assert ticked == {(START + 31 * DAY) // 60_000}


# -- what others do to Redis


@pytest.mark.parametrize("evicted", [True, False])
def test_lost_feature_hash_is_written_whole(ground: Ground, evicted: bool) -> None:
    """A feature hash that somebody deleted stands again, whole, after the person's next event."""
    engine = ground.engine()
    ground.post(*(_event("u1", START + i, i, i % 20) for i in range(6)))
    made.drain(engine)
    ground.client.delete(layout.entity_key(VOCABULARY.join_key, b"org/u1"))
    if evicted:
        engine.people.evict(16)
    ground.post(_event("u1", START + 9, 9))
    made.drain(engine)
    assert ground.wrong() == {}
    assert ground.online() == ground.offline()


def test_only_what_changed_is_written(ground: Ground) -> None:
    """The second write of a person leaves alone what did not change."""
    engine = ground.engine()
    ground.post(_event("u1", START, 1))
    made.drain(engine)
    key = layout.entity_key(VOCABULARY.join_key, b"org/u1")
    ground.client.hset(key, layout.field(VOCABULARY.view, "property_count"), b"ours")
    ground.post(_event("u1", START, 2))
    made.drain(engine)
    assert ground.client.hget(key, layout.field(VOCABULARY.view, "property_count")) == b"ours"
    assert ground.features("u1")["doc_access_count_30d"] == 2


# -- who somebody is


@pytest.mark.parametrize("seed", range(3))
def test_anonymous_history_joins_the_user(ground: Ground, seed: int) -> None:
    """At identify, and for what comes late after it, the user has the history of both, whoever is killed when."""
    rng = np.random.default_rng(seed)
    engine, oracle, n = ground.engine(), Oracle(), 0
    people = ["u1", "anon:a", "anon:b", "u2"]
    joined: dict[str, str] = {}
    now = START
    for round_ in range(40):
        now += int(rng.integers(1, 3 * DAY))
        for _ in range(int(rng.integers(1, 5))):
            n += 1
            user = people[int(rng.integers(0, 4))]
            event = _event(user, now, n, int(rng.integers(0, 20)), now - int(rng.integers(0, 40 * DAY)), 5000)
            (posted,) = made.post(ground.client, ground.store, VOCABULARY, [event])
            receive(oracle, msgspec.structs.replace(posted, user=joined.get(user, user)))
        if round_ in {10, 20}:
            anonymous = people[round_ // 10]
            joined[anonymous] = "u1"
            made.join(ground.client, ground.store, VOCABULARY, anonymous, "u1", now)
            oracle.person("u1").absorb(oracle.people.pop(anonymous, Oracle().person("")), now)
        engine = _live(ground, rng, engine)
    made.drain(engine)
    made.drain(engine)
    for user in ("u1", "u2"):
        at = made.feature_time(ground.client, VOCABULARY, user)
        assert at >= oracle.person(user).now
        oracle.person(user).pass_time(at)
        assert unlike(ground.features(user), oracle.person(user).features()) == {}
    assert ground.features("anon:a")["active_days_30d"] == 0
    state = read_user(ground.client, ground.store, PLAN, "org/anon:a")
    assert state is not None
    assert state.joined == "org/u1"


def test_state_tells_the_same_as_the_features(ground: Ground) -> None:
    """A person read back from state has the features that stand in Redis, and the counts of the signals."""
    rng = np.random.default_rng(1)
    for event in made.random_events(VOCABULARY, rng, 200, 5, 20):
        ground.post(event)
    made.drain(ground.engine())
    for user in ground.oracle.people:
        state = read_user(ground.client, ground.store, PLAN, f"org/{user}")
        assert state is not None
        assert state.features == ground.features(user)
        assert {f"{s.name}_strength": s.strength for s in state.signals}.items() <= state.features.items()


# -- the flow


class Watched(Engine):
    """Notes what the flow does, and ends it once everything was counted."""

    def __init__(self, *args: Any) -> None:
        self.trace: list[str] = []
        super().__init__(*args)

    def evaluate(self, due: list[Progress]) -> Evaluated:
        self.trace.append("evaluate")
        return super().evaluate(due)

    def count(self, reads: list[Read]) -> list[Read]:
        self.trace += ["count"] if reads else []
        return super().count(reads)

    def write(self, evaluated: Evaluated) -> None:
        self.trace.append("write")
        super().write(evaluated)
        if self.events == 300:
            running.stopping.set()


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        running.stopping.clear()
        for number, handler in kept.items():
            signal.signal(number, handler)


def test_dataflow_goes_all_the_way_before_it_reads_on(ground: Ground) -> None:
    """What is due is written before anything else is counted, so that state stands at its position."""
    rng = np.random.default_rng(2)
    for event in made.random_events(VOCABULARY, rng, 300, 12, 30):
        ground.post(event)
    engine = Watched(VOCABULARY, ground.settings, ground.store, ground.client, lambda: dial(ground.settings), {})
    ground.engines.append(engine)
    keeping = Housekeeping(engine, connect(ground.settings), dial(ground.settings))
    with _signals_kept():
        running.run(dataflow(engine, keeping))
    keeping.stop()
    keeping._connection.close()
    keeping._client.close()
    engine.flush()
    assert "write" in engine.trace
    assert all(then == "write" for step, then in pairwise(engine.trace) if step == "evaluate")
    assert ground.online() == ground.offline()
