"""Streams for tests: a log filled as the door would fill it, an engine over it, what Redis then holds."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import redis
import xxhash

from feature_repo import keys, layout
from feature_repo.settings import Settings
from feature_repo.vocabulary import Vocabulary
from flows.engine import Engine
from flows.entry import Draft
from flows.state import identity
from flows.store import Store, dial

DAY = 86_400_000
START = 1_760_000_000_000 // DAY * DAY  # a midnight


class Event(msgspec.Struct, frozen=True):
    """One event as it arrives at log time `now`."""

    user: str
    code: int
    value: int
    ts: int
    now: int
    mid: int
    traits: tuple[tuple[int, int], ...] = ()


def post(client: redis.Redis, store: Store, vocabulary: Vocabulary, events: list[Event], *, history: bool = False) -> None:
    """Append events as one entry a partition, with the ids of a log-clock store."""
    drafts: dict[int, Draft] = {}
    for event in events:
        name = f"org/{event.user}".encode()
        uid = identity(store, name)
        draft = drafts.setdefault(uid % store.partitions, Draft())
        mid = xxhash.xxh3_64_intdigest(b"%d" % event.mid, store.seed)
        at = draft.add(uid, name, mid, event.ts, event.code, event.value, b"{}")
        draft.traits += [(at, trait, bits) for trait, bits in event.traits]
    for p, draft in drafts.items():
        now = max(event.now for event in events)
        fields = {"e": draft.encode(vocabulary.fingerprint, history=history), "r": draft.encode_raw()}
        client.xadd(keys.log(p), fields, id=f"{now}-*")
        client.hincrby(keys.counts(p), "accepted", len(draft))


def engine(vocabulary: Vocabulary, settings: Settings, store: Store, client: redis.Redis, **more: Any) -> Engine:
    return Engine(vocabulary, settings, store, client, lambda: dial(settings), more.pop("models", {}), **more)


def step(engine: Engine, *, write: bool = True) -> int:
    """One turn of the dataflow by hand; returns how many entries it read."""
    reads = engine.count(engine.read())
    if write:
        for due in engine.conflate(reads):
            engine.write(engine.decide(engine.score(engine.evaluate(due))))
    return len(reads)


def drain(engine: Engine) -> None:
    """Turn until the log is read and everything is written."""
    while step(engine):
        pass
    engine.flush()


def features(client: redis.Redis, vocabulary: Vocabulary, user: str) -> dict[str, float | None]:
    """What Redis holds of a user."""
    key = layout.entity_key(vocabulary.join_key, f"org/{user}".encode())
    fields = [layout.field(vocabulary.view, f.name) for f in vocabulary.features]
    values = client.hmget(key, fields)
    return {f.name: layout.read_double(v) for f, v in zip(vocabulary.features, values, strict=True)}


def counts(client: redis.Redis, store: Store) -> dict[str, int]:
    """Events by outcome, over all partitions."""
    total: dict[str, int] = {}
    for p in range(store.partitions):
        for name, count in client.hgetall(keys.counts(p)).items():
            total[name.decode()] = total.get(name.decode(), 0) + int(count)
    return total


def random_events(vocabulary: Vocabulary, rng: np.random.Generator, n: int, users: int, days: int) -> list[Event]:
    """Events over some days: late ones, shuffled within hours, some sent twice, a few traits."""
    now = START + np.sort(rng.integers(0, days * DAY, n))
    late = np.where(rng.random(n) < 0.2, rng.integers(0, 100 * DAY, n), rng.integers(0, 3_600_000, n))
    made: list[Event] = []
    for i in range(n):
        if made and rng.random() < 0.1:
            again = made[int(rng.integers(0, len(made)))]
            if now[i] - again.now < DAY // 2:
                made.append(msgspec.structs.replace(again, now=int(now[i])))
                continue
        traits = ()
        if rng.random() < 0.1:
            trait = int(rng.integers(0, len(vocabulary.traits)))
            number = int(np.float64(rng.integers(1, 9) * 1000.0).view(np.int64))
            traits = ((trait, number),)
        made.append(
            Event(
                f"u{int(rng.zipf(1.5)) % users}",
                int(rng.integers(0, len(vocabulary.codes))),
                int(rng.integers(1, 60_000)),
                int(now[i] - late[i]),
                int(now[i]),
                i,
                traits,
            )
        )
    return made


