"""Engines as processes of their own, over a store of the test's."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import cast

import redis

from feature_repo import keys
from feature_repo.settings import Settings
from flows.store import Store
from serving.supervisor import environment
from tests.flows import streams_made as made
from tests.flows.both_sides import VOCABULARY
from tests.flows.ground import ACCESS


@contextlib.contextmanager
def engine(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m flows.alerting`; what is left of it at the end is killed."""
    log = settings.home / "engine.log"
    with log.open("ab") as err:
        process = subprocess.Popen([sys.executable, "-m", "flows.alerting"], env=environment(settings), stderr=err)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def owners(client: redis.Redis, store: Store) -> list[str]:
    """By partition, who has its lease; empty where nobody has."""
    found = cast(list["bytes | None"], client.mget([keys.lease(p) for p in range(store.partitions)]))
    return [(owner or b"").decode() for owner in found]


def until_shared(client: redis.Redis, store: Store, engines: int) -> list[str]:
    """Until so many engines have all partitions, and none of them two more than another; who has which."""
    until(lambda: _is_fair(owners(client, store), engines))
    return owners(client, store)


def _is_fair(found: list[str], engines: int) -> bool:
    each = Counter(found).values()
    return "" not in found and len(each) == engines and max(each) - min(each) < 2


def until(so: Callable[[], bool], patience: float = 60.0) -> None:
    deadline = time.monotonic() + patience
    while not so():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


def post(client: redis.Redis, store: Store, people: int, n: int) -> None:
    """The n-th document that each of these people opens."""
    now = made.START + n
    events = [made.Event(f"u{i}", ACCESS, 0, now, now, n * people + i) for i in range(people)]
    made.post(client, store, VOCABULARY, events)


def opened(client: redis.Redis, user: str) -> float | None:
    return made.features(client, VOCABULARY, user)["doc_access_count_30d"]


def until_counted(client: redis.Redis, store: Store, quiet: int = 1) -> None:
    """Until all positions stood at the ends of their logs, `quiet` times in a row.

    What an anonymous person passes on is appended by the write that brings the position to the end.
    """
    deadline, there = time.monotonic() + 60, 0
    while there < quiet:
        there = there + 1 if _ends(client, store) == _positions(client, store) else 0
        assert time.monotonic() < deadline, "the engine did not come to the end of the log"
        time.sleep(0.03)


def _ends(client: redis.Redis, store: Store) -> list[bytes]:
    infos = [cast(dict[str, bytes], client.xinfo_stream(keys.log(p))) for p in range(store.partitions)]
    return [info["last-generated-id"] for info in infos]


def _positions(client: redis.Redis, store: Store) -> list[bytes | None]:
    return [cast("bytes | None", client.get(keys.position(p))) for p in range(store.partitions)]
