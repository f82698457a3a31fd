"""How a flush of many people is whole or not at all, in transactions of few.

A transaction keeps all its arguments in the server until it ends: beyond a few hundred people they fall out of the
processor's caches. So a large flush is written down first, as one value; its people follow in small transactions,
each of which may be done twice; the last one holds what may not, moves the position, and deletes what was written
down. Whoever takes the partition over finishes what stands there.
"""

from __future__ import annotations

import msgspec
import redis
import zstandard

from flows.resp import pack


class Redo(msgspec.Struct, array_like=True):
    """`commands`: `count` packed ones, all of the flush. `copied`: keys that begin as copies of the hash `defaults`."""

    count: int
    commands: bytes
    copied: list[bytes]
    defaults: str

    def encoded(self) -> bytes:
        return zstandard.compress(msgspec.msgpack.encode(self), 1)


def decode(data: bytes) -> Redo:
    """Raises ValueError for what is none."""
    try:
        return msgspec.msgpack.decode(zstandard.decompress(data), type=Redo)
    except (zstandard.ZstdError, msgspec.MsgspecError) as error:
        raise ValueError(f"expected a flush as it was written down: {error}") from error


def completed(redo: Redo, client: redis.Redis) -> tuple[bytes, int]:
    """(packed commands, count) that finish it, however much of it was done.

    Who was to begin as a copy may have had a hash already, of which nobody was told: what it lacks is filled in.
    """
    defaults = client.hgetall(redo.defaults) if redo.copied else {}
    filling = [pack("HSETNX", key, field, value) for key in redo.copied for field, value in defaults.items()]
    return b"".join((redo.commands, *filling)), redo.count + len(filling)
