"""Who may write: leases, epochs, positions, and partitions that move."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import redis

from feature_repo import keys
from flows.partition import Fenced, LogBehind, Taken
from tests.flows import streams_made as made
from tests.flows.both_sides import VOCABULARY
from tests.flows.ground import Ground, event
from tests.flows.streams_made import START


def _dump(client: redis.Redis) -> dict[bytes, Any]:
    leases = {key for p in range(4) for key in (keys.lease(p).encode(), keys.epoch(p).encode())}
    return {key: client.dump(key) for key in client.scan_iter(count=1000) if key not in leases}


def test_stalled_engine_that_wakes_late_changes_nothing(ground: Ground) -> None:
    """Once another has taken over, what a stalled engine still writes is refused, whole."""
    stalled = ground.engine()
    ground.post(*(event(f"u{i}", START + i, i) for i in range(8)))
    made.step(stalled, write=False)
    heir = ground.engine()
    ground.post(event("u1", START + 50, 50))
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
    ground.post(*(event(f"u{i}", START + i, i) for i in range(8)))
    engine = ground.engine()
    made.drain(engine)
    engine.close()
    for p in range(4):
        ground.client.delete(keys.log(p))
    with pytest.raises(LogBehind, match=rf"state stands at {START + 7}-0, the log ends at 0-0"):
        ground.engine()


def test_trimmed_log_is_no_alarm(ground: Ground) -> None:
    """A log whose entries were trimmed behind the position goes on."""
    ground.post(*(event(f"u{i}", START + i, i) for i in range(8)))
    engine = ground.engine()
    made.drain(engine)
    engine.close()
    for p in range(4):
        ground.client.xtrim(keys.log(p), maxlen=0)
    ground.post(event("u1", START + 9, 9))
    made.drain(ground.engine())
    assert ground.wrong() == {}
