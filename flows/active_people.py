"""How many people of each organisation are active, from a sample of what the store knows of people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import msgspec
import numpy as np
import redis

from feature_repo import keys
from feature_repo.finish import DAY
from feature_repo.vocabulary import Vocabulary
from flows.plan import Plan
from flows.state import Layouts, key
from flows.store import Store

SAMPLE = 4_000  # people, unless there are fewer: then all
MINUTES = 1_440  # slices of a partition, each a random share of its people
STEP = 48  # slices read at once
ACTIVE_DAYS = 365


class Active(msgspec.Struct, frozen=True):
    """People by organisation; `share`: of all people, those who were looked at (1: everybody)."""

    people: dict[str, int]
    share: float


def active(client: redis.Redis, store: Store, vocabulary: Vocabulary, now_ms: int) -> Active:
    """Who did something in the year before now (the log's time). Raises redis.RedisError.

    An anonymous person who turned out to be somebody counts as that one.
    """
    layouts = Layouts(Plan(vocabulary), client)
    found, seen, looked = Counter[str](), 0, 0
    for looked, uids in _slices(client, store):  # noqa: B007  # how far it came
        seen += len(uids)
        found.update(_active(client, layouts, uids, now_ms - ACTIVE_DAYS * DAY))
        if seen >= SAMPLE:
            break
    share = looked / MINUTES if looked else 1.0
    return Active({name: round(n / share) for name, n in found.items()}, share)


def _slices(client: redis.Redis, store: Store) -> Iterator[tuple[int, list[int]]]:
    """(slices read so far, people of the next ones), of all partitions."""
    for low in range(0, MINUTES, STEP):
        with client.pipeline(transaction=False) as pipe:
            for minute in range(low, low + STEP):
                for partition in range(store.partitions):
                    pipe.smembers(keys.slice_of(partition, minute))
            yield low + STEP, [int(uid) for members in pipe.execute() for uid in members]


def _active(client: redis.Redis, layouts: Layouts, uids: list[int], since: int) -> Iterator[str]:
    """The organisation of each who did something since then."""
    unsigned = np.array(uids, np.int64).view(np.uint64).tolist()
    plan = layouts.plan
    for low in range(0, len(unsigned), 1_000):
        some = unsigned[low : low + 1_000]
        values = client.mget([key(prefix, uid) for prefix in (keys.HOT, keys.COLD) for uid in some])
        known = [
            (hot, cold) for hot, cold in zip(values[: len(some)], values[len(some) :], strict=True) if hot and cold
        ]
        if not known:
            continue
        rows, names, _ = layouts.read(*map(list, zip(*known, strict=True)))
        latest = rows[:, plan.last : plan.trait].max(axis=1, initial=0)
        for name, at in zip(names, latest.tolist(), strict=True):
            if at >= since and b"\0" not in name:
                yield name.partition(b"/")[0].decode()
