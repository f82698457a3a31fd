"""Write keys: who may post events and read, and for which organisation. They live in one Redis hash."""

from __future__ import annotations

import secrets
from typing import cast

import redis

from feature_repo import keys

FIRST_ORGANISATION = "main"


def make(client: redis.Redis, organisation: str) -> str:
    """A new key for the organisation (its name: 1-100 characters, no slash). Raises ValueError."""
    if not 1 <= len(organisation) <= 100 or "/" in organisation or not organisation.isprintable():
        raise ValueError(f"an organisation's name has 1-100 characters and no slash, not {organisation!r}")
    key = f"tt_{secrets.token_urlsafe(18)}"
    client.hset(keys.KEYS, key, organisation)
    return key


def listed(client: redis.Redis) -> dict[str, str]:
    """Write key -> organisation, by organisation."""
    found = cast(dict[bytes, bytes], client.hgetall(keys.KEYS))
    return {k.decode(): v.decode() for k, v in sorted(found.items(), key=lambda item: (item[1], item[0]))}


def first(client: redis.Redis) -> tuple[str, bool]:
    """A key that exists, else a new one; and whether it is new."""
    for key in listed(client):
        return key, False
    return make(client, FIRST_ORGANISATION), True
