"""The columnar table and its state against a count from scratch, after every update."""

from __future__ import annotations

import struct
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from feature_repo import domain
from feature_repo.declare import Count, EventType, Feature
from feature_repo.vocabulary import SILENT, Vocabulary, VocabularyError
from flows.plan import Plan
from flows.state import Layouts, StateError
from flows.windows import Full, Table
from tests.flows.both_sides import VOCABULARY, apply, named, receive
from tests.flows.oracle import Oracle, unlike
from tests.flows.streams_made import DAY, START, Event

PLAN = Plan(VOCABULARY)
MINUTE, HOUR = 60_000, 3_600_000
USERS = 3
QUIET = settings(max_examples=120, deadline=None, derandomize=True, database=None)

# -- what may happen

PASSING = st.one_of(
    st.just(0),
    st.integers(1, 10 * MINUTE),
    st.integers(1, 3 * HOUR),
    st.integers(1, 5 * DAY),
    st.sampled_from([HOUR, DAY, 24 * HOUR - 1, 29 * DAY, 30 * DAY, 91 * DAY]),
)
LATENESS = st.one_of(
    st.integers(-HOUR, 0),  # from the future
    st.integers(0, HOUR),
    st.integers(0, 2 * DAY),
    st.integers(0, 92 * DAY),
    st.sampled_from([DAY, 6 * DAY, 7 * DAY, 29 * DAY, 30 * DAY, 89 * DAY, 90 * DAY]),
)
NUMBERS = st.sampled_from([0.0, 1.0, 2.0, 250_000.0, 1e6])
DATES = st.integers(START - 4000 * DAY, START).map(float)


def _bits(number: float) -> int:
    return cast(int, struct.unpack("<q", struct.pack("<d", number))[0])


@st.composite
def told(draw: st.DrawFn) -> tuple[int, int]:
    trait = draw(st.integers(0, len(VOCABULARY.traits) - 1))
    kind = VOCABULARY.traits[trait].kind
    if kind == "text":
        return trait, draw(st.integers(1, 3))
    return trait, _bits(draw(NUMBERS if kind == "number" else DATES))


@st.composite
def happenings(draw: st.DrawFn) -> tuple[int, int, int, int, list[tuple[int, int]]]:
    """(user, code, value, lateness, traits)."""
    code = draw(st.integers(0, len(VOCABULARY.codes) - 1) | st.just(SILENT))
    traits = draw(st.lists(told(), max_size=3)) if code == SILENT else []
    return draw(st.integers(0, USERS - 1)), code, draw(st.integers(0, 90_000)), draw(LATENESS), traits


UPDATES = st.lists(st.tuples(PASSING, st.lists(happenings(), max_size=4)), min_size=1, max_size=25)


def _events(updates: list[tuple[int, list[Any]]]) -> list[list[Event]]:
    """The events of each update, with their log times."""
    now, message = START, 0
    out: list[list[Event]] = []
    for passed, happened in updates:
        now += passed
        out.append([])
        for user, code, value, late, traits in happened:
            message += 1
            out[-1].append(Event(f"u{user}", code, value, now - late, now, message, tuple(traits)))
        out[-1].append(Event("", 0, 0, now, now, 0))  # a tick: time passes for all
    return out


# -- both sides


def everybody(table: Table) -> np.ndarray[Any, Any]:
    rows = table.index.lookup(np.arange(USERS, dtype=np.uint64))
    return rows[rows >= 0]


def update(table: Table, events: list[Event]) -> None:
    apply(table, [e for e in events if e.mid])
    rows = everybody(table)
    table.touch(rows, np.full(len(rows), max(e.now for e in events)))


def follow(oracle: Oracle, events: list[Event]) -> None:
    for event in events:
        if event.mid:
            receive(oracle, event)
        for person in oracle.people.values():
            person.pass_time(event.now)


def test_all_features_are_the_oracles() -> None:
    """The oracle computes every feature that the vocabulary declares."""
    assert set(Oracle().person("x").features()) == set(VOCABULARY.feature_index)
    assert len(VOCABULARY.feature_index) == 45


@QUIET
@given(UPDATES)
def test_table_equals_oracle_after_every_update(updates: list[tuple[int, list[Any]]]) -> None:
    """All 45 features of everybody are what a count from scratch gives, after every batch and every tick."""
    table, oracle = Table(PLAN, USERS), Oracle()
    for events in _events(updates):
        update(table, events)
        follow(oracle, events)
        rows = everybody(table)
        for uid, values in zip(table.index.keys[rows].tolist(), table.evaluate(rows), strict=True):
            person = oracle.people.get(f"u{uid}")
            assert person is None or not unlike(named(values), person.features())


@QUIET
@given(UPDATES, st.lists(st.integers(0, 100), max_size=6))
def test_any_cut_gives_the_same_bits(updates: list[tuple[int, list[Any]]], cuts: list[int]) -> None:
    """However the log is cut into batches, features and closed tiles come out bit for bit the same."""
    events = [event for batch in _events(updates) for event in batch]
    whole, parts = Table(PLAN, USERS), Table(PLAN, USERS)
    update(whole, events)
    ends = sorted({min(cut, len(events)) for cut in cuts} | {len(events)})
    for low, high in zip([0, *ends], ends, strict=False):
        if low < high:
            update(parts, events[low:high])
    for uid in range(USERS):
        one, other = (t.index.lookup(np.array([uid], np.uint64)) for t in (whole, parts))
        if one[0] >= 0:
            assert whole.evaluate(one).tobytes() == parts.evaluate(other).tobytes()
            assert whole.values[one].tobytes() == parts.values[other].tobytes()
            assert whole.closed(one) == parts.closed(other)


@QUIET
@given(UPDATES, st.integers(0, 25), PASSING)
def test_absorbed_history_counts_as_ones_own(updates: list[tuple[int, list[Any]]], when: int, passed: int) -> None:
    """Once a person turns out to be another, all features are those of one person who did both."""
    table, oracle, batches = Table(PLAN, USERS), Oracle(), _events(updates)
    for events in batches[:when]:
        update(table, events)
        follow(oracle, events)
    rows = table.rows(np.arange(USERS, dtype=np.uint64))
    now = int(table.values[rows, 0].max(initial=START)) + passed
    table.touch(rows[:1], np.array([now]))
    oracle.person("u0").absorb(oracle.person("u1"), now)
    table.absorb(int(rows[0]), table.values[rows[1], : PLAN.hot].copy(), table.closed(rows[1:2])[0])
    assert not unlike(named(table.evaluate(rows[:1])[0]), oracle.person("u0").features())
    table.touch(rows[:1], np.array([now + 20 * DAY]))
    oracle.person("u0").pass_time(now + 20 * DAY)
    assert not unlike(named(table.evaluate(rows[:1])[0]), oracle.person("u0").features())


def _column(event: str, *, value: bool = False) -> int:
    found = [i for i, c in enumerate(PLAN.columns) if c.events == (event,) and c.value == value and not c.hourly]
    return PLAN.today + found[0]


def _post(table: Table, event: str, at: int, count: int, value: int = 0) -> None:
    rows = table.rows(np.zeros(count, np.uint64))
    code = np.full(count, VOCABULARY.code[event, None])
    table.apply(rows, code, np.full(count, value), np.full(count, at), np.full(count, at))


def _features(table: Table, at: int) -> dict[str, float | None]:
    row = table.rows(np.zeros(1, np.uint64))
    table.touch(row, np.array([at]))
    return named(table.evaluate(row)[0])


def test_more_than_two_to_the_16_events_count() -> None:
    """70,000 events in one tile are 70,000, open and closed."""
    table = Table(PLAN, 1)
    _post(table, "document_access", START, 70_000)
    assert _features(table, START)["doc_access_count_30d"] == 70_000
    assert _features(table, START + 3 * DAY)["doc_access_count_30d"] == 70_000
    assert _features(table, START + 30 * DAY)["doc_access_count_30d"] == 0


@pytest.mark.parametrize("before", [2**16, 2**32, 2**35, 2**36, 2**40])
def test_counters_do_not_wrap(before: int) -> None:
    """A counter that stands just below a power of two counts on across it, open and closed."""
    table = Table(PLAN, 1)
    _post(table, "document_access", START, 1)
    table.values[0, _column("document_access")] = before - 2
    _post(table, "document_access", START, 5)
    assert _features(table, START)["doc_access_count_30d"] == before + 3
    assert _features(table, START + DAY)["doc_access_count_30d"] == before + 3
    _post(table, "document_access", START, 2)
    assert _features(table, START + 2 * DAY)["doc_access_count_30d"] == before + 5


@pytest.mark.parametrize("value", [2**35 - 1, 2**35, 2**36 + 7, 2**40])
def test_large_values_sum_exactly(value: int) -> None:
    """Values beyond what one packed entry holds add up exactly, and their tile is one active tile."""
    table = Table(PLAN, 1)
    for day in range(3):
        _post(table, "session", START + day * DAY, 7, value)
    found = _features(table, START + 5 * DAY)
    assert found["avg_session_minutes_30d"] == 21 * value / 1000 / 21
    assert found["active_days_30d"] == 3
    assert found["session_count_30d"] == 21


def test_full_table_says_so() -> None:
    """A table without a free row refuses, and takes others once somebody left."""
    table = Table(PLAN, 2)
    rows = table.allocate(np.array([5, 6], np.uint64))
    with pytest.raises(Full, match=r"TELLTALE_CACHE_USERS: expected room for 1 people more.*got 2"):
        table.allocate(np.array([7], np.uint64))
    table.release(rows[:1])
    assert table.allocate(np.array([7], np.uint64)).tolist() == rows[:1].tolist()
    assert table.index.lookup(np.array([5, 6, 7], np.uint64)).tolist() == [-1, 1, 0]


# -- state


def _module(features: tuple[Feature, ...], events: tuple[EventType, ...] = domain.EVENTS) -> Vocabulary:
    """The shipped domain with other features or events, and no models."""
    parts = {name: getattr(domain, name) for name in domain.__all__}
    parts |= {"FEATURES": features, "EVENTS": events, "SERVICES": ()}
    return Vocabulary(cast(ModuleType, SimpleNamespace(**parts)))


MORE = Feature(
    name="support_tickets_7d",
    unit="events",
    window="7 d",
    default=0.0,
    description="tickets",
    of=Count("support_ticket", days=7),
)
LAYOUTS = {
    "the same": VOCABULARY,
    "one more": _module((MORE, *VOCABULARY.features)),
    "one less": _module(tuple(f for f in VOCABULARY.features if f.name != "mean_days_between_sessions")),
    "other order": _module(VOCABULARY.features[::-1]),
    "another event": _module(VOCABULARY.features, (EventType(name="tour", description="tour"), *domain.EVENTS)),
}


def _filled(plan: Plan, seed: int) -> Table:
    """People with half a year of everything."""
    rng, n, people = np.random.default_rng(seed), 3000, 40
    table = Table(plan, people)
    now = START + np.sort(rng.integers(0, 180 * DAY, n))
    rows = table.rows(rng.integers(0, people, n).astype(np.uint64))
    codes = rng.integers(0, len(plan.vocabulary.codes), n)
    table.apply(rows, codes, rng.integers(0, 90_000, n), now - rng.integers(0, 95 * DAY, n), now)
    traits = rng.integers(0, len(plan.vocabulary.traits), n)
    table.apply_traits(rows, traits, rng.integers(1, 4, n).astype(np.float64).view(np.int64), now)
    return table


def _moved(old: Table, layouts: Layouts, reader: Layouts) -> Table:
    """The same people after a round trip through Redis' bytes."""
    used = old.rows(np.arange(40, dtype=np.uint64))
    hot = [layouts.head + old.values[row, : old.plan.hot].tobytes() for row in used]
    cold = [layouts.cold(b"org/u%d" % i, closed) for i, closed in enumerate(old.closed(used))]
    rows, names, closed = reader.read(hot, cold)
    assert names == [b"org/u%d" % i for i in range(40)]
    table = Table(reader.plan, 40)
    table.restore(table.allocate(np.arange(40, dtype=np.uint64)), rows, closed)
    return table


def _by_name(table: Table) -> dict[str, bytes]:
    table.touch(np.arange(40), np.full(40, START + 190 * DAY))
    values = table.evaluate(table.rows(np.arange(40, dtype=np.uint64)))
    return {name: values[:, i].tobytes() for name, i in table.plan.vocabulary.feature_index.items()}


@pytest.mark.parametrize("name", LAYOUTS)
def test_state_comes_back_bit_for_bit(name: str, client: redis.Redis) -> None:
    """State written under one layout, read under another and written again gives the features that it gave."""
    written, read = Plan(LAYOUTS[name]), Plan(VOCABULARY)
    old, new = Layouts(written, client), Layouts(read, client)
    old.register()
    there = _moved(_filled(written, 1), old, new)
    back = _moved(there, new, new)
    expected, found, again = _by_name(_filled(written, 1)), _by_name(there), _by_name(back)
    shared = [feature for feature in found if feature in expected]
    assert len(shared) == (44 if name == "one less" else 45)
    assert {f: found[f] for f in shared} == {f: expected[f] for f in shared}
    assert again == found


def test_new_features_begin_at_nothing(client: redis.Redis) -> None:
    """A window that the older layout did not count starts empty, and counts from then on."""
    written, read = Plan(VOCABULARY), Plan(LAYOUTS["one more"])
    old = Layouts(written, client)
    old.register()
    table = _moved(_filled(written, 1), old, Layouts(read, client))
    at = START + 190 * DAY
    assert not np.frombuffer(_by_name(table)["support_tickets_7d"]).any()
    code = read.vocabulary.code["support_ticket", None]
    table.apply(np.zeros(3, np.int64), np.full(3, code), np.zeros(3, np.int64), np.full(3, at), np.full(3, at))
    assert table.evaluate(np.zeros(1, np.int64))[0][read.vocabulary.feature_index["support_tickets_7d"]] == 3


def test_sums_at_another_scale_begin_at_nothing(client: redis.Redis) -> None:
    """Sums that were kept at another scale are not taken for sums at today's."""
    events = tuple(structs.replace(e, scale=60) if e.name == "session" else e for e in domain.EVENTS)
    old = Layouts(Plan(_module(VOCABULARY.features, events)), client)
    old.register()
    found = _by_name(_moved(_filled(old.plan, 1), old, Layouts(PLAN, client)))
    assert not np.frombuffer(found["avg_session_minutes_30d"]).any()
    assert np.frombuffer(found["session_count_30d"]).any()


def test_unknown_layout_is_refused(client: redis.Redis) -> None:
    """State under a layout that the store does not know is refused, not misread."""
    old, new = Layouts(Plan(LAYOUTS["one more"]), client), Layouts(PLAN, client)
    with pytest.raises(StateError, match="not one that this store knows"):
        _moved(_filled(old.plan, 1), old, new)


def _counting(n: int) -> Vocabulary:
    """A domain that counts n kinds of events, each over 30 days."""
    names = tuple(f"kind_{i}" for i in range(n))
    features = tuple(
        Feature(name=f"{x}_30d", unit="events", window="30 d", default=0.0, description=x, of=Count(x, days=30))
        for x in names
    )
    parts = {"EVENTS": tuple(EventType(name=x, description=x) for x in names), "FEATURES": features}
    return Vocabulary(cast(ModuleType, SimpleNamespace(**parts)))


def test_many_columns_keep_their_tiles() -> None:
    """A domain that counts 256 things apart keeps each one's closed tiles apart."""
    table = Table(Plan(_counting(256)), 1)
    row, zeros = table.rows(np.zeros(1, np.uint64)), np.zeros(256, np.int64)
    for day in range(3):
        table.apply(zeros, np.arange(256), zeros, zeros + START + day * DAY, zeros + START + day * DAY)
    table.touch(row, np.array([START + 4 * DAY]))
    assert table.evaluate(row)[0].tolist() == [3.0] * 256


def test_too_many_columns_are_refused() -> None:
    """A domain that counts more things apart than a tile can name does not start."""
    with pytest.raises(VocabularyError, match="count 257 things apart, expected at most 256"):
        Plan(_counting(257))


def test_what_nobody_told_stands_at_its_default() -> None:
    """Features of traits that nobody told stand at what means unknown."""
    table = Table(PLAN, 1)
    _post(table, "session", START, 1)
    found = _features(table, START)
    assert (found["property_count"], found["estimated_equity"], found["loan_to_value"]) == (0.0, 0.0, 0.0)
