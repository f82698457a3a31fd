"""A flush of many people, in transactions of few: whole or not at all, wherever it is cut."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
import zstandard

from feature_repo import keys
from feature_repo.layout import entity_key
from flows import redo, transaction
from flows.engine import Engine
from flows.partition import Partition
from flows.resp import Lost
from tests.flows import streams_made as made
from tests.flows.both_sides import VOCABULARY
from tests.flows.ground import Ground, event
from tests.flows.streams_made import START


@pytest.fixture(autouse=True)
def _many_people_few_together(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transaction, "TOGETHER", 3)
    ground.settings = msgspec.structs.replace(ground.settings, cache_users=200)


def counted(ground: Ground) -> Engine:
    """An engine that has counted the whole log and written nothing."""
    engine = ground.engine()
    while not engine.reader.caught_up or engine._held:
        engine.count(engine.read())
    return engine


def cut(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """The connection breaks once so many transactions were sent; what was sent is done."""
    sent = 0
    send = Partition.send

    def limited(self: Partition, commands: bytes, count: int) -> Callable[[], list[Any]]:
        nonlocal sent
        sent += 1
        if sent > after:
            raise Lost("cut")
        return send(self, commands, count)

    monkeypatch.setattr(Partition, "send", limited)


def left(ground: Ground) -> int:
    return sum(ground.client.exists(keys.redo(p)) for p in range(ground.store.partitions))


@pytest.mark.parametrize("after", [0, 1, 2, 4, 5, 9, 14, 20])
def test_the_next_owner_finishes_a_flush_that_was_cut(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """Nothing is lost and nothing counts twice; what was written down is gone."""
    for each in made.random_events(VOCABULARY, np.random.default_rng(after), 300, 60, 20):
        ground.post(each)
    engine = counted(ground)
    with monkeypatch.context() as broken:
        cut(broken, after)
        with pytest.raises(Lost):
            engine.flush()
    made.kill(engine)
    assert (left(ground) > 0) == (after > 0)
    ground.engine()
    assert left(ground) == 0
    made.drain(ground.engine())
    assert ground.online() == ground.offline()
    assert ground.wrong() == {}
    assert {name: n for name, n in ground.counts().items() if name != "accepted"} == {
        name: n for name, n in ground.oracle.outcomes.items() if n
    }


def test_somebody_new_who_had_a_hash_is_whole_after_it(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a copy would have brought is filled in, and what stood there stays."""
    users = [f"u{i}" for i in range(40)]
    hashes = {user: entity_key(VOCABULARY.join_key, f"org/{user}".encode()) for user in users}
    for key in hashes.values():
        ground.client.hset(key, "mine", "1")
    ground.post(*(event(user, START, n) for n, user in enumerate(users)))
    engine = counted(ground)
    with monkeypatch.context() as broken:
        cut(broken, ground.store.partitions + 1)
        with pytest.raises(Lost):
            engine.flush()
    made.kill(engine)
    ground.engine()
    for user, key in hashes.items():
        assert ground.client.hget(key, "mine") == b"1"
        assert None not in made.features(ground.client, VOCABULARY, user).values()


@pytest.mark.parametrize("damaged", [b"", b"no zstd", zstandard.compress(b"no msgpack"), zstandard.compress(b"\x91\1")])
def test_what_is_no_flush_is_named(damaged: bytes) -> None:
    with pytest.raises(ValueError, match="expected a flush"):
        redo.decode(damaged)
