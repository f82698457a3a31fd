"""A sample of what the online store holds: entities as SCAN meets them (in no order), with all their views."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import redis

from feature_repo.declare import Entity, Value, View
from feature_repo.layout import PROJECT, entity_key, field, read_timestamp, read_value, timestamp_field
from feature_repo.vocabulary import Vocabulary

LOOKS, LOOK = 5_000, 1_000  # how often, and at how many keys of the store at once, where an entity is hard to find
PIECE = 500  # entities read at once


class Sampled(msgspec.Struct):
    """One view of `count` entities, of which some lack it: values by feature, and when written, ms since 1970."""

    count: int
    written: list[int | None]
    values: dict[str, list[Value | None]]


def sampled(client: redis.Redis, vocabulary: Vocabulary, most: int) -> dict[str, Sampled]:
    """Every view, from at most so many of its entities. Raises redis.RedisError."""
    found = _keys(client, vocabulary, most)
    return {
        name: _read(client, view, found[view.entity]) for name, view in vocabulary.views.items()
    }  # a person's views, of the same people


def _keys(client: redis.Redis, vocabulary: Vocabulary, most: int) -> dict[str, list[bytes]]:
    """Redis keys by entity."""
    prefixes = {_prefix(entity): entity.name for entity in vocabulary.entities}
    found: dict[str, dict[bytes, None]] = {name: {} for name in prefixes.values()}  # SCAN may give a key twice
    for key in _entities(client):
        mine = next((name for prefix, name in prefixes.items() if key.startswith(prefix)), None)
        if mine is not None and len(found[mine]) < most:
            found[mine][key] = None
            if all(len(some) >= most for some in found.values()):
                break
    return {name: list(some) for name, some in found.items()}


def _entities(client: redis.Redis) -> Iterator[bytes]:
    cursor: Any = 0
    for _ in range(LOOKS):
        cursor, found = client.scan(cursor, match=b"\x01\0\0\0*" + PROJECT.encode(), count=LOOK, _type="HASH")
        yield from found
        if not cursor:
            return


def _prefix(entity: Entity) -> bytes:
    """What all its keys begin with: a key of an empty value, but for that value's length and the project."""
    return entity_key(entity.join_key, b"", "")[:-4]


def _read(client: redis.Redis, view: View, found: list[bytes]) -> Sampled:
    names = [f.name for f in view.fields]
    fields = [timestamp_field(view.name), *(field(view.name, name) for name in names)]
    rows: list[list[Any]] = []
    for start in range(0, len(found), PIECE):
        with client.pipeline(transaction=False) as pipe:
            for key in found[start : start + PIECE]:
                pipe.hmget(key, fields)
            rows += pipe.execute()
    written = [read_timestamp(row[0]) if row[0] is not None else None for row in rows]
    columns = {name: [read_value(row[i]) for row in rows] for i, name in enumerate(names, 1)}
    return Sampled(len(found), written, columns)
