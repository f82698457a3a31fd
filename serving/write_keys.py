"""Write keys: who may post events and read, for which organisation, and which of them are administrators'."""

from __future__ import annotations

import secrets
from typing import cast

import redis

from feature_repo import keys

FIRST_ORGANISATION = "main"


def make(client: redis.Redis, organisation: str, *, admin: bool = False) -> str:
    """A new key for the organisation (its name: 1-100 characters, no slash). Raises ValueError.

    `admin`: it may also train and deploy models.
    """
    if not 1 <= len(organisation) <= 100 or "/" in organisation or not organisation.isprintable():
        raise ValueError(f"an organisation's name has 1-100 characters and no slash, not {organisation!r}")
    key = f"tt_{secrets.token_urlsafe(18)}"
    with client.pipeline(transaction=True) as pipe:
        pipe.hset(keys.KEYS, key, organisation)
        if admin:
            pipe.sadd(keys.ADMINS, key)
        pipe.execute()
    return key


def listed(client: redis.Redis) -> dict[str, str]:
    """Write key -> organisation, by organisation."""
    found = cast(dict[bytes, bytes], client.hgetall(keys.KEYS))
    return {k.decode(): v.decode() for k, v in sorted(found.items(), key=lambda item: (item[1], item[0]))}


def administrators(client: redis.Redis) -> set[str]:
    """Those keys that may also train and deploy models."""
    return {key.decode() for key in cast(set[bytes], client.smembers(keys.ADMINS))}


def first(client: redis.Redis) -> tuple[str, bool]:
    """A key that exists, else a new one; and whether it is new."""
    for key in listed(client):
        return key, False
    return make(client, FIRST_ORGANISATION), True
