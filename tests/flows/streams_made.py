"""Streams for tests: a log filled as the door would fill it, an engine over it, what Redis then holds."""

from __future__ import annotations

from contextlib import suppress
from socket import SHUT_RDWR
from typing import Any, cast

import msgspec
import numpy as np
import redis
import xxhash

from feature_repo import keys, layout
from feature_repo.settings import Settings
from feature_repo.vocabulary import PUSHED, SILENT, UNKNOWN, Vocabulary
from flows.engine import Engine
from flows.entry import Draft, tick
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


def post(
    client: redis.Redis, store: Store, vocabulary: Vocabulary, events: list[Event], *, history: bool = False
) -> list[Event]:
    """Append events as one entry a partition, with the ids of a log-clock store; returns them at the log's time."""
    drafts: dict[int, Draft] = {}
    for event in events:
        name = f"org/{event.user}".encode()
        uid = identity(store, name)
        draft = drafts.setdefault(uid % store.partitions, Draft())
        mid = xxhash.xxh3_64_intdigest(b"%d" % event.mid, store.seed)
        at = draft.add(uid, name, mid, event.ts, event.code, event.value, b"{}")
        draft.traits += [(at, trait, bits) for trait, bits in event.traits]
    now = max(event.now for event in events)
    with client.pipeline(transaction=True) as pipe:
        for p, draft in drafts.items():
            fields: Any = {"e": draft.encode(vocabulary.fingerprint, history=history), "r": draft.encode_raw()}
            pipe.xadd(keys.log(p), fields, id=f"{now}-*")
            pipe.hincrby(keys.counts(p), "accepted", len(draft))
        pipe.execute()
    return [msgspec.structs.replace(event, now=now) for event in events]


def join(
    client: redis.Redis, store: Store, vocabulary: Vocabulary, anonymous: str, user: str, now: int, *, said: int = 0
) -> None:
    """The anonymous person turns out to be the user, as the door says it beside an identify call made at `said`."""
    name, draft = f"org/{anonymous}".encode(), Draft()
    uid = identity(store, name)
    draft.joins.append((draft.add(uid, name, 0, said or now), f"org/{user}".encode()))
    fields: Any = {"e": draft.encode(vocabulary.fingerprint), "r": draft.encode_raw()}
    client.xadd(keys.log(uid % store.partitions), fields, id=f"{now}-*")


def pass_time(client: redis.Redis, store: Store, now: int, minutes: int = 1440) -> None:
    """Ticks of the minutes up to `now` in every partition; a day of them refreshes everybody."""
    fields: Any = {"e": tick(now // 60_000 - minutes + 1, now // 60_000)}
    for p in range(store.partitions):
        client.xadd(keys.log(p), fields, id=f"{now}-*")


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
    """Turn until the log is read and everything is written; the first empty answer may be one asked for before."""
    quiet = 0
    while quiet < 2:
        quiet = 0 if step(engine) else quiet + 1
    engine.flush()


def kill(engine: Engine) -> None:
    """What kill -9 leaves of an engine: its connections break, whatever they were doing."""
    for connection in engine._connections:
        with suppress(OSError):
            connection._socket.shutdown(SHUT_RDWR)
    engine.abandon()


def features(client: redis.Redis, vocabulary: Vocabulary, user: str) -> dict[str, float | None]:
    """What Redis holds of a user."""
    key = layout.entity_key(vocabulary.join_key, f"org/{user}".encode())
    fields = [layout.field(vocabulary.view, f.name) for f in vocabulary.features]
    values = client.hmget(key, fields)
    return {f.name: layout.read_double(v) for f, v in zip(vocabulary.features, values, strict=True)}


def feature_time(client: redis.Redis, vocabulary: Vocabulary, user: str) -> int:
    """As of when they are, ms; 0 where there are none."""
    key = layout.entity_key(vocabulary.join_key, f"org/{user}".encode())
    stamp = cast("bytes | None", client.hget(key, layout.timestamp_field(vocabulary.view)))
    return layout.read_timestamp(stamp) if stamp else 0


def counts(client: redis.Redis, store: Store) -> dict[str, int]:
    """Events by outcome, over all partitions."""
    total: dict[str, int] = {}
    for p in range(store.partitions):
        for name, count in client.hgetall(keys.counts(p)).items():
            total[name.decode()] = total.get(name.decode(), 0) + int(count)
    return total


def random_events(vocabulary: Vocabulary, rng: np.random.Generator, n: int, users: int, days: int) -> list[Event]:
    """Events over some days: late, shuffled within hours, sent twice, of unknown names, some pushed or with traits."""
    now = START + np.sort(rng.integers(0, days * DAY, n))
    late = np.where(rng.random(n) < 0.2, rng.integers(0, 100 * DAY, n), rng.integers(-3_600_000, 3_600_000, n))
    made: list[Event] = []
    for i, at in enumerate(now.tolist()):
        if made and rng.random() < 0.1:
            again = made[int(rng.integers(max(0, len(made) - 100), len(made)))]
            made.append(msgspec.structs.replace(again, now=at))
            continue
        code = int(rng.integers(0, len(vocabulary.codes)))
        traits: tuple[tuple[int, int], ...] = ()
        if rng.random() < 0.1:
            number = int(np.float64(rng.integers(1, 9) * 1000.0).view(np.int64))
            code, traits = (PUSHED, SILENT)[i % 2], ((int(rng.integers(0, len(vocabulary.traits))), number),)
        elif rng.random() < 0.05:
            code = PUSHED if i % 4 == 0 else UNKNOWN
        user = f"u{int(rng.zipf(1.5)) % users}"
        made.append(Event(user, code, int(rng.integers(1, 60_000)), at - int(late[i]), at, i, traits))
    return made
