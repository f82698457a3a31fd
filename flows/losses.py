"""What of the accepted events is gone: a store that was emptied or restored older, entries trimmed before their time.

An event is accepted in the transaction that appends it, and so counted in Redis and, by whoever appended it, in this
home's high-water mark. A store with less than the mark went back. The engine, and the lake, count what they get: what
they did not get of it when nothing waits any more is lost (`gaps.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import redis

from feature_repo import keys
from feature_repo.settings import Settings
from flows.high_mark import End, marked
from flows.resp import StoreError, pack
from flows.store import Store, create, open_store

ADVICE = "`telltale rebuild` restores what the lake has (see `telltale doctor`)"
_STANDING = """
local found = {redis.call('HGET', KEYS[1], 'seed')}
for i = 3, #KEYS, 2 do
  local p = tostring((i - 3) / 2)
  local counts = redis.call('HMGET', KEYS[i], 'accepted', 'lost')
  local missing = redis.call('HGET', KEYS[i + 1], 'missing')
  local known = redis.call('HMGET', KEYS[2], p, 'lake:' .. p)
  found[#found + 1] = {counts[1] or 0, counts[2] or 0, missing or 0, known[1] or 0, known[2] or 0}
end
return found
"""


class WentBack(StoreError):
    """The store lacks what it once acknowledged: nothing may go on as if it did not."""


class Gone(msgspec.Struct, frozen=True):
    """Of a partition: events accepted; lost to the engine and to the lake, and of how many an operator knows."""

    accepted: int = 0
    lost: int = 0
    missing: int = 0
    lost_known: int = 0
    missing_known: int = 0


class Standing(msgspec.Struct, frozen=True):
    """What Redis says, of one moment. `seed`: of the store that it holds; None where it holds none."""

    seed: int | None
    partitions: list[Gone]


def question(store: Store) -> tuple[Any, ...]:
    """The command of which `answered` reads the reply."""
    each = [key for p in range(store.partitions) for key in (keys.counts(p), keys.lake_counts(p))]
    return ("EVAL", _STANDING, 2 + len(each), keys.STORE, keys.LOSSES, *each)


def packed(store: Store) -> bytes:
    return pack(*question(store))


def answered(reply: list[Any]) -> Standing:
    seed = None if reply[0] is None else int(reply[0])
    return Standing(seed, [Gone(*map(int, numbers)) for numbers in reply[1:]])


def standing(client: redis.Redis, store: Store) -> Standing:
    return answered(client.execute_command(*question(store)))


def went_back(store: Store, mark: Sequence[End], now: Standing) -> str:
    """How Redis contradicts what was acknowledged, and what to do; empty where it does not."""
    gone = behind(mark, now)
    if now.seed != store.seed:
        held = f"; {told(gone)} were in it" if any(gone) else ""
        return f"this Redis does not hold our store any more, it was emptied or is another one{held}: {ADVICE}"
    if any(gone):
        return f"the store went back in time (restored older?), {told(gone)} are gone: {ADVICE}"
    return ""


def behind(mark: Sequence[End], now: Standing) -> list[int]:
    """By partition, how many of the events acknowledged Redis lacks."""
    return [max(end.accepted - gone.accepted, 0) for end, gone in zip(mark, now.partitions, strict=True)]


def unknown(now: Standing) -> list[str]:
    """Losses that no operator has accepted yet, in words."""
    lost = [gone.lost - gone.lost_known for gone in now.partitions]
    missing = [gone.missing - gone.missing_known for gone in now.partitions]
    found = [f"{told(lost)} are lost: gone from the log before the engine worked them. {ADVICE}"] if any(lost) else []
    if any(missing):
        found.append(f"{told(missing)} are not in the lake: gone from the log before it came for them")
    return [f"{line}; `telltale doctor --accept-loss` goes on without them" for line in found]


def told(counts: Iterable[int]) -> str:
    """As in "7 accepted events (partition 0: 3, partition 2: 4)"."""
    some = {p: count for p, count in enumerate(counts) if count}
    where = ", ".join(f"partition {p}: {count}" for p, count in some.items())
    return f"{sum(some.values())} accepted events ({where})"


def problems(client: redis.Redis, settings: Settings, store: Store) -> list[str]:
    """All of it."""
    now, known = standing(client, store), marked(settings.home, store.seed)
    back = went_back(store, known.ends if known else [End()] * store.partitions, now)
    return [*([back] if back else []), *unknown(now)]


def opened(client: redis.Redis, settings: Settings) -> Store:
    """The store, if it is all there. Raises WentBack, StoreError."""
    _refuse_emptied(client, settings)
    return _whole(client, settings, open_store(client))


def created(client: redis.Redis, settings: Settings) -> Store:
    """The store, made where this home never had one. Raises WentBack, StoreError."""
    _refuse_emptied(client, settings)
    return create(client, settings)


def accepted(client: redis.Redis, settings: Settings) -> list[str]:
    """An operator goes on without what is gone: it is counted as lost, and known to be. Says what it was.

    Raises StoreError where there is no store to go on with.
    """
    store = open_store(client)
    said, known = problems(client, settings, store), marked(settings.home, store.seed)
    now = standing(client, store)
    gone = behind(known.ends if known else [End()] * store.partitions, now)
    with client.pipeline(transaction=True) as pipe:
        for p, count in enumerate(gone):
            pipe.hincrby(keys.counts(p), "accepted", count)
            pipe.hincrby(keys.counts(p), "lost", count)
            pipe.hset(keys.LOSSES, str(p), now.partitions[p].lost + count)
            pipe.hset(keys.LOSSES, f"lake:{p}", now.partitions[p].missing)
            if count and client.hexists(keys.lake_counts(p), "events"):
                pipe.hincrby(keys.lake_counts(p), "events", count)
        pipe.execute()
    return said


def once_held(settings: Settings) -> Store | None:
    """The store that this home worked with, by its mark, else by its lake."""
    if known := marked(settings.home):
        return known.store
    from flows.lake_store import identity

    whose = identity(settings.lake)
    return Store(whose.partitions, whose.clock, whose.seed, whose.version) if whose else None


def _refuse_emptied(client: redis.Redis, settings: Settings) -> None:
    if client.exists(keys.STORE) or not (store := once_held(settings)):
        return
    known = marked(settings.home, store.seed)
    nothing = Standing(None, [Gone()] * store.partitions)
    begin_anew = f"to begin anew, move {settings.lake} and {settings.home / 'marks'} away"
    raise WentBack(f"{went_back(store, known.ends if known else [End()] * store.partitions, nothing)}; {begin_anew}")


def _whole(client: redis.Redis, settings: Settings, store: Store) -> Store:
    known = marked(settings.home, store.seed)
    if known and (back := went_back(store, known.ends, standing(client, store))):
        raise WentBack(back)
    return store
