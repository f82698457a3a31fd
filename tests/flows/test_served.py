"""What the engine hands to the lake of what it serves: whole rows, in the transaction that serves them."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
import redis

from feature_repo import keys
from feature_repo.settings import Settings
from flows.entry import decode as decode_entry
from flows.plan import Plan
from flows.served import Served, ServedRows, bound, decode, held, names
from flows.state import identity
from tests.flows import streams_made as made
from tests.flows.both_sides import VOCABULARY
from tests.flows.ground import Ground, event
from tests.flows.streams_made import DAY, START

WHOLE = 1.0


def rows(client: redis.Redis, partitions: int) -> list[ServedRows]:
    return [decode(fields) for p in range(partitions) for _, fields in client.xrange(keys.served(p))]


def followed(settings: Settings, share: float) -> Settings:
    return msgspec.structs.replace(settings, lake_features=share)


def test_rows_are_what_feast_reads(client: redis.Redis, settings: Settings) -> None:
    """Each flush hands over everybody whom it wrote: name, now, position and every value, bit for bit."""
    ground = Ground(client, followed(settings, WHOLE))
    engine = ground.engine()
    rng = np.random.default_rng(4)
    for batch in np.array_split(np.array(made.random_events(VOCABULARY, rng, 200, 12, 40), object), 5):
        ground.post(*batch)
        made.drain(engine)
    last: dict[bytes, tuple[int, int, Any]] = {}
    for read in rows(client, ground.store.partitions):
        last |= dict(zip(read.names, zip(read.uid.tolist(), read.now.tolist(), read.values, strict=True), strict=True))
    assert sorted(last) == sorted({f"org/{e.user}".encode() for e in ground.events})
    for name, (uid, now, values) in last.items():
        user = name.decode().removeprefix("org/")
        assert uid == identity(ground.store, name)
        assert now == made.feature_time(client, VOCABULARY, user)
        assert dict(zip(names(VOCABULARY), values.tolist(), strict=True)) == ground.features(user)


def test_position_is_the_flush_s(client: redis.Redis, settings: Settings) -> None:
    """The last row of a partition stands at the partition's committed position."""
    ground = Ground(client, followed(settings, WHOLE))
    ground.post(event("u1", START, 1))
    made.drain(ground.engine())
    partition = identity(ground.store, b"org/u1") % ground.store.partitions
    (read,) = rows(client, ground.store.partitions)
    assert read.position == client.get(keys.position(partition))


def test_a_share_is_always_the_same_people(client: redis.Redis, settings: Settings) -> None:
    """Who is followed follows from who they are: about the share asked for, and at a larger share all of them too."""
    ground = Ground(client, settings)
    plan, uids = Plan(VOCABULARY), np.random.default_rng(1).integers(0, 2**64, 20_000, np.uint64)
    few, more, all_ = (set(Served(plan, ground.store, s).followed(uids).tolist()) for s in (0.05, 0.2, WHOLE))
    assert 800 < len(few) < 1200
    assert few < more < all_
    assert len(all_) == len(uids)
    assert not len(Served(plan, ground.store, 0.0).followed(uids))


def test_what_nobody_comes_for_is_bounded_and_counted(client: redis.Redis, settings: Settings) -> None:
    """Beyond the limit the oldest entries go, and each of their rows is counted."""
    ground = Ground(client, followed(settings, WHOLE))
    engine = ground.engine()
    ground.post(event("u1", START, 1))
    made.drain(engine)
    partition = identity(ground.store, b"org/u1") % ground.store.partitions
    ((_, fields),) = client.xrange(keys.served(partition))
    for _ in range(299):  # as many flushes
        client.xadd(keys.served(partition), fields)
    before, most = client.xlen(keys.served(partition)), held(client, keys.served(partition)) // 2
    dropped = bound(client, partition, most)
    assert held(client, keys.served(partition)) <= most
    assert dropped == before - client.xlen(keys.served(partition)) > 0
    assert int(client.get(keys.served_dropped(partition)) or 0) == dropped


@pytest.mark.parametrize("when", [START, START + DAY])
def test_an_absorption_says_up_to_where_it_holds(client: redis.Redis, settings: Settings, when: int) -> None:
    """What passes from an anonymous person to a user names the position of the flush that passed it on."""
    ground = Ground(client, settings)
    ground.post(event("u1", START, 1))
    made.join(client, ground.store, VOCABULARY, "u1", "u2", when)
    engine = ground.engine()
    made.drain(engine)
    (own, _), (their, _) = ((identity(ground.store, n) % ground.store.partitions, n) for n in (b"org/u1", b"org/u2"))
    entries = [f for _, f in client.xrange(keys.log(their)) if b"h" in f]
    assert [decode_entry(f[b"e"]).join(0) for f in entries] == [b"org/u1"]
    joined = next(id_ for id_, f in client.xrange(keys.log(own)) if len(decode_entry(f[b"e"]).join_at))
    assert entries[0][b"p"] == joined
