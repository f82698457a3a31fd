"""Whose lake it is: the lock on it, and the identity of its store, kept so that the store can be restored from it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec

from flows.lake_shelf import LakeError
from flows.store import Store

IDENTITY = "store.json"


class Identity(Store, frozen=True):
    """A store as it was created. `removed_until`: dates up to this one may be gone from the lake; empty: none."""

    removed_until: str = ""


def claim(lake: Path, store: Store) -> IO[str]:
    """The lock on the lake, while the file stays open. Raises LakeError when it is not ours to write."""
    lock = locked(lake)
    lock.seek(0)
    owner = lock.read()
    if owner and owner != str(store.seed):
        lock.close()
        raise LakeError(f"{lake} holds another store's events: move it away, or set another TELLTALE_HOME")
    if not owner:
        lock.write(str(store.seed))
        lock.flush()
    if identity(lake) is None:
        keep(lake, Identity(**msgspec.structs.asdict(store)))
    return lock


def locked(lake: Path) -> IO[str]:
    """The lock alone. Raises LakeError when another process has it."""
    lake.mkdir(parents=True, exist_ok=True)
    lock = (lake / "store").open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise LakeError(f"another process writes the lake {lake}: stop that Telltale first") from None
    return lock


@contextmanager
def still(lake: Path) -> Iterator[None]:
    """While nobody else writes files or commits a position: the files are then as Redis says, whoever looks."""
    lake.mkdir(parents=True, exist_ok=True)
    with (lake / "still").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def identity(lake: Path) -> Identity | None:
    """None where no lake process has run yet. Raises LakeError when it cannot be read."""
    try:
        return msgspec.json.decode((lake / IDENTITY).read_bytes(), type=Identity)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise LakeError(f"{lake / IDENTITY} is damaged: {error}") from error


def keep(lake: Path, whose: Identity) -> None:
    """There whole, on disk, or not at all."""
    fresh = lake / f"{IDENTITY}.new"
    with fresh.open("wb") as file:
        file.write(msgspec.json.encode(whose))
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(lake / IDENTITY)
