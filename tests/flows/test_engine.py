"""The engine over a real Valkey: whatever happens to it, Redis holds what a count from scratch gives."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any, cast

import msgspec
import numpy as np
import pytest

from feature_repo import domain, keys, layout
from feature_repo.declare import EventType
from feature_repo.vocabulary import SILENT, Vocabulary
from flows import transaction
from flows.entry import Draft
from flows.state import read_user
from tests.flows import streams_made as made
from tests.flows.both_sides import VOCABULARY, receive
from tests.flows.ground import ACCESS, PLAN, Ground, event, live
from tests.flows.streams_made import DAY, START, Event


@pytest.mark.parametrize("seed", range(4))
def test_redis_holds_what_offline_computes(ground: Ground, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Late, shuffled, repeated, in any cut, evicted, killed anywhere: the bits of one go, and the oracle's values."""
    monkeypatch.setattr(transaction, "TOGETHER", (256, 1)[seed % 2])  # people of a flush: in one transaction, in many
    rng = np.random.default_rng(seed)
    events = made.random_events(VOCABULARY, rng, 500, 40, int(rng.choice([2, 20, 120])))
    engine, at = ground.engine(), 0
    while at < len(events):
        size = int(rng.choice([1, 3, 8]))
        ground.post(*events[at : at + size])
        at += size
        if rng.random() < 0.03:
            ground.pass_time(events[min(at, len(events)) - 1].now)
        engine = live(ground, rng, engine)
    made.drain(engine)
    assert ground.online() == ground.offline()
    assert ground.wrong() == {}
    assert {name: n for name, n in ground.counts().items() if name != "accepted"} == {
        name: n for name, n in ground.oracle.outcomes.items() if n
    }


def test_all_that_was_accepted_is_accounted_for(ground: Ground) -> None:
    """accepted = processed + duplicate + unknown + late + quarantined, once the log is drained."""
    rng = np.random.default_rng(3)
    for each in made.random_events(VOCABULARY, rng, 300, 20, 30):
        ground.post(each)
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
    ground.post(event("u1", START, 1))
    for p in range(ground.store.partitions):
        ground.client.xadd(keys.log(p), fields, id=f"{START}-*")
    ground.post(event("u1", START + 1, 2))
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
    clicks = [event("u1", START + i, i, older.code["email_click", "refinance"]) for i in range(2, 6)]
    made.post(ground.client, ground.store, older, [told, *clicks])
    ground.post(event("u1", START + 9, 9))
    made.drain(ground.engine())
    found = ground.features("u1")
    assert (found["property_count"], found["refinance_email_clicks_90d"], found["doc_access_count_30d"]) == (3, 4, 1)


# -- what others do to Redis


def test_upgrade_in_the_middle(ground: Ground) -> None:
    """Another numbering of events, traits and features takes over state and unread entries, and loses nothing."""
    parts = {name: getattr(domain, name) for name in domain.__all__}
    events = (EventType(name="tour", description="tour"), *domain.EVENTS[::-1])
    parts |= {"EVENTS": events, "TRAITS": domain.TRAITS[::-1], "FEATURES": domain.FEATURES[::-1]}
    newer = Vocabulary(cast(ModuleType, SimpleNamespace(**parts)))
    posted = made.random_events(VOCABULARY, np.random.default_rng(4), 400, 20, 60)
    for n, each in enumerate(posted[:200]):
        ground.post(each)
        if n == 100:
            made.drain(ground.engine())
    for each in posted[200:]:
        receive(ground.oracle, each)
        made.post(ground.client, ground.store, newer, [_renumbered(each, newer)])
    engine = made.engine(newer, ground.settings, ground.store, ground.client)
    ground.engines.append(engine)
    made.drain(engine)
    assert ground.wrong() == {}
    assert {n: c for n, c in ground.counts().items() if n != "accepted"} == ground.oracle.outcomes


def _renumbered(of: Event, newer: Vocabulary) -> Event:
    """An event of today's numbering under another."""
    code = of.code
    if code < len(VOCABULARY.codes):
        known = VOCABULARY.codes[code]
        code = newer.code[known.event, known.tag]
    traits = tuple((newer.trait_id[VOCABULARY.traits[trait].name], bits) for trait, bits in of.traits)
    return msgspec.structs.replace(of, code=code, traits=traits)


@pytest.mark.parametrize("evicted", [True, False])
def test_lost_feature_hash_is_written_whole(ground: Ground, evicted: bool) -> None:
    """A feature hash that somebody deleted stands again, whole, after the person's next event."""
    engine = ground.engine()
    ground.post(*(event("u1", START + i, i, i % 20) for i in range(6)))
    made.drain(engine)
    ground.client.delete(layout.entity_key(VOCABULARY.join_key, b"org/u1"))
    if evicted:
        engine.people.evict(16)
    ground.post(event("u1", START + 9, 9))
    made.drain(engine)
    assert ground.wrong() == {}
    assert ground.online() == ground.offline()


@pytest.mark.parametrize("template", [True, False])
def test_somebody_new_is_whole_whatever_stood_there(ground: Ground, template: bool) -> None:
    """Where a hash stands already, with a field of somebody else's, or the defaults are gone, all features come."""
    engine = ground.engine()
    key = layout.entity_key(VOCABULARY.join_key, b"org/u1")
    ground.client.hset(key, b"crm:", b"kept")
    if not template:
        ground.client.delete(*ground.client.keys("tt:defaults:*"))
    ground.post(event("u1", START, 1), event("u2", START, 2))
    made.drain(engine)
    assert ground.wrong() == {}
    assert ground.client.hget(key, b"crm:") == b"kept"


def test_position_never_goes_back(ground: Ground) -> None:
    """A hash found lost when a later write is under way is written again at that later position."""
    engine = ground.engine()
    for n in range(3):
        ground.post(event("u1", START + n, n))
        while not engine.count(engine.read()):
            pass  # an empty answer may be one that was asked for before
        engine.write(engine.decide(engine.score(engine.evaluate(engine._due()))))  # without looking for replies
        if n == 0:
            engine.writer.settle()
            ground.client.delete(layout.entity_key(VOCABULARY.join_key, b"org/u1"))
    made.drain(engine)
    assert {ground.client.get(keys.position(p)) for p in range(4)} == {None, b"%d-0" % (START + 2)}
    assert ground.online() == ground.offline()


@pytest.mark.parametrize("meanwhile", ["nothing", "evicted", "another engine", "another version"])
def test_only_what_changed_is_written(ground: Ground, meanwhile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later write of a person leaves alone what did not change, unless other code computed it."""
    engine = ground.engine()
    ground.post(event("u1", START, 1))
    made.drain(engine)
    key = layout.entity_key(VOCABULARY.join_key, b"org/u1")
    ground.client.hset(key, layout.field(VOCABULARY.view, "property_count"), b"ours")
    if meanwhile == "another version":
        monkeypatch.setattr("flows.state.code_version", lambda vocabulary: 0)
    if meanwhile.startswith("another"):
        engine.close()
        engine = ground.engine()
    elif meanwhile == "evicted":
        engine.people.evict(16)
    ground.post(event("u1", START, 2))
    made.drain(engine)
    whole = ground.client.hget(key, layout.field(VOCABULARY.view, "property_count")) != b"ours"
    assert whole == (meanwhile == "another version")
    assert ground.features("u1")["doc_access_count_30d"] == 2


# -- who somebody is


@pytest.mark.parametrize("seed", range(2))
def test_anonymous_history_joins_the_user(ground: Ground, seed: int) -> None:
    """At identify, and for what comes late after it, the user has the history of both, whoever is killed when."""
    rng, oracle, now = np.random.default_rng(seed), ground.oracle, START
    engine, joined = ground.engine(), dict[str, str]()
    known, crowd = ["u1", "anon:a", "anon:b"], [f"u{i}" for i in range(2, 30)]
    for n in range(130):
        now += int(rng.integers(1, DAY))
        user = str(rng.choice(known if rng.random() < 0.4 else crowd))
        happened = event(user, now, n, int(rng.integers(0, 18)), now - int(rng.integers(0, 40 * DAY)), 5000)
        made.post(ground.client, ground.store, VOCABULARY, [happened])
        receive(oracle, msgspec.structs.replace(happened, user=joined.get(user, user)))
        if n in {50, 90}:
            anonymous = known[1 if n == 50 else 2]
            joined[anonymous] = "u1"
            made.join(ground.client, ground.store, VOCABULARY, anonymous, "u1", now)
            oracle.person("u1").absorb(oracle.people.pop(anonymous), now)
        engine = live(ground, rng, engine)
    made.drain(engine)
    made.drain(engine)
    assert ground.wrong() == {}
    assert ground.features("anon:a")["active_days_30d"] == 0
    state = read_user(ground.client, ground.store, PLAN, "org/anon:a")
    assert state is not None
    assert state.joined == "org/u1"


def test_an_older_identify_that_comes_again_changes_nobody(ground: Ground) -> None:
    """Who an anonymous person is stays as said last, also when what was said before is sent again."""
    engine = ground.engine()
    for n, (user, said) in enumerate([("old", START), ("new", START + 5), ("old", START)]):
        made.join(ground.client, ground.store, VOCABULARY, "anon:a", user, START + 10 + n, said=said)
    made.drain(engine)
    engine.people.evict(16)
    made.join(ground.client, ground.store, VOCABULARY, "anon:a", "old", START + 14, said=START + 1)
    ground.post(event("anon:a", START + 20, 1))
    made.drain(engine)
    made.drain(engine)
    assert (ground.features("new")["doc_access_count_30d"], ground.features("old")["doc_access_count_30d"]) == (1, None)
    state = read_user(ground.client, ground.store, PLAN, "org/anon:a")
    assert state is not None
    assert state.joined == "org/new"


def test_state_tells_the_same_as_the_features(ground: Ground) -> None:
    """A person read back from state has the features that stand in Redis, and signals as sure as the oracle's."""
    rng = np.random.default_rng(1)
    for each in made.random_events(VOCABULARY, rng, 200, 5, 20):
        ground.post(each)
    made.drain(ground.engine())
    for user in ground.oracle.people:
        state = read_user(ground.client, ground.store, PLAN, f"org/{user}")
        assert state is not None
        assert state.features == ground.features(user)
        assert {f"{s.name}_strength": s.strength for s in state.signals}.items() <= state.features.items()
        strength = sum(s.strength for s in state.signals)
        ground.oracle.person(user).pass_time(state.at)
        sure = sum(s.strength * s.confidence for s in state.signals) / (strength or 1)
        assert sure == pytest.approx(ground.oracle.person(user).confidence(), rel=1e-12)
