"""The store: where it is, how it was created, whether it keeps its promise."""

from __future__ import annotations

import re
import secrets
from contextlib import closing
from typing import Literal, cast
from urllib.parse import unquote, urlsplit

import msgspec
import redis

from feature_repo import keys
from feature_repo.settings import Settings
from flows.embedded import Embedded, embedded, where
from flows.resp import Address, Connection, StoreError, pack

__all__ = [
    "Embedded",
    "Store",
    "StoreError",
    "address",
    "connect",
    "create",
    "dial",
    "durability",
    "embedded",
    "open_store",
]

VERSION = 1  # of the keys' layout
OLDEST = (6, 2)  # Redis or Valkey
Clock = Literal["wall", "log"]


class Store(msgspec.Struct, frozen=True):
    """What was settled when the store was created. `seed`: of user and message ids, 63 bits."""

    partitions: int
    clock: Clock
    seed: int
    version: int = VERSION


def address(settings: Settings) -> Address:
    """Where the store listens. Raises StoreError when the embedded one was never started, or on a wrong URL."""
    if settings.redis_url:
        return _parsed(settings.redis_url)
    found = where(settings.home)
    if found is None:
        raise StoreError(_absent(settings))
    return found.address


def _absent(settings: Settings) -> str:
    return f"no store runs in {settings.home}: start it with `telltale up`, or set TELLTALE_REDIS_URL"


def _parsed(url: str) -> Address:
    try:
        return _read_url(url)
    except ValueError:
        shown = re.sub(r"//[^/]*@", "//...@", url)  # no password on the screen
        expected = "redis://[user:password@]host[:port][/number], rediss://... or unix:///path"
        raise StoreError(f"TELLTALE_REDIS_URL: expected {expected}, not {shown!r}") from None


def _read_url(url: str) -> Address:
    """Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return Address(path=unquote(parts.path), password=unquote(parts.password or ""))
    if parts.scheme not in {"redis", "rediss"} or not parts.hostname:
        raise ValueError(url)
    return Address(
        host=parts.hostname,
        port=parts.port or 6379,
        db=int(parts.path.strip("/") or "0"),
        username=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        tls=parts.scheme == "rediss",
    )


def dial(settings: Settings, timeout: float | None = 30.0) -> Connection:
    """A raw connection. Raises StoreError."""
    return Connection(address(settings), timeout)


def connect(settings: Settings) -> redis.Redis:
    """The ordinary client (bytes in, bytes out), once it has answered. Raises StoreError."""
    at = address(settings)
    try:
        with closing(Connection(at, timeout=5.0)) as probe:  # the ordinary client would try for many seconds
            probe.call(pack("PING"))
    except StoreError as error:
        missing = f"no Redis or Valkey to be had at {at}" if settings.redis_url else _absent(settings)
        raise StoreError(f"{missing} ({error})") from error
    return _client(at)


def _client(at: Address) -> redis.Redis:
    if at.path:
        return redis.Redis(unix_socket_path=at.path, password=at.password or None, socket_timeout=30)
    return redis.Redis(
        host=at.host,
        port=at.port,
        db=at.db,
        username=at.username or None,
        password=at.password or None,
        ssl=at.tls,
        socket_timeout=30,
        socket_connect_timeout=5,
    )


def create(client: redis.Redis, settings: Settings) -> Store:
    """The store; created from `settings` unless it exists, then as it is.

    Raises StoreError on a server too old, an unknown version, or a clock that the store does not have.
    """
    _refuse_old(client)
    _refuse_half(client)
    fresh = Store(settings.partitions, settings.clock, secrets.randbits(63))
    with client.pipeline(transaction=True) as pipe:
        for name, value in msgspec.to_builtins(fresh).items():
            pipe.hsetnx(keys.STORE, name, value)
        pipe.hgetall(keys.STORE)
        store = _decoded(pipe.execute()[-1])
    if settings.clock == "log" and store.clock == "wall":
        raise StoreError(
            "this store was created with the wall clock, so history cannot be brought into it: "
            "use another TELLTALE_HOME (or database of Redis), created with TELLTALE_CLOCK=log"
        )
    return store


def open_store(client: redis.Redis) -> Store:
    """The store as it was created. Raises StoreError when there is none."""
    found = cast(dict[bytes, bytes], client.hgetall(keys.STORE))
    _refuse_half(client)
    if not found:
        raise StoreError("there is no Telltale store in this Redis yet: `telltale up` creates it")
    return _decoded(found)


def _refuse_half(client: redis.Redis) -> None:
    if client.exists(keys.REBUILDING):
        raise StoreError("the rebuild of this store has not come to its end: `telltale rebuild` goes on with it")


def _decoded(found: dict[bytes, bytes]) -> Store:
    plain = {name.decode(): value.decode() for name, value in found.items()}
    if plain.get("version") != str(VERSION):
        raise StoreError(f"the store has version {plain.get('version')}, this Telltale reads version {VERSION}")
    try:
        return msgspec.convert(plain, Store, strict=False)
    except msgspec.ValidationError as error:
        raise StoreError(f"the hash {keys.STORE} is damaged: {error}") from error


def _refuse_old(client: redis.Redis) -> None:
    info = cast(dict[str, object], client.info("server"))
    version = str(info.get("valkey_version") or info.get("redis_version"))
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        raise StoreError(f"expected Redis or Valkey {OLDEST[0]}.{OLDEST[1]} or newer, this one is {version}")


def durability(client: redis.Redis) -> list[str]:
    """In plain words, each way in which this server could lose what was acknowledged; empty when none."""
    wanted = {
        "appendonly": ("yes", "it keeps nothing on disk as it goes: a crash loses events"),
        "appendfsync": ("always", "a power cut or crash can lose events already acknowledged"),
        "maxmemory-policy": ("noeviction", "when memory is full it throws state and events away"),
    }
    try:
        actual = cast(dict[str, str], client.config_get(*wanted))
    except redis.ResponseError as error:
        return [f"cannot tell whether this Redis keeps what it acknowledges, CONFIG GET is refused: {error}"]
    return [
        f"{name} is {actual.get(name)}, expected {value}: {harm}"
        for name, (value, harm) in wanted.items()
        if actual.get(name) != value
    ]
