"""Files that several processes change: one at a time, each change whole or not there."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from onnx_models.registry import Conflict


@contextmanager
def locked(file: Path, patience: float) -> Iterator[None]:
    """One process at a time, until it ends, killed or not. Raises Conflict when somebody else does not end."""
    handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        deadline = time.monotonic() + patience
        while not _taken(handle):
            if time.monotonic() > deadline:
                raise Conflict(f"{file}: another change is still under way after {patience:g} s")
            time.sleep(0.01)
        yield
    finally:
        os.close(handle)


def _taken(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def replace(file: Path, content: bytes) -> None:
    """The file whole, on disk: a reader finds the old one or the new one. The caller holds its lock."""
    new = file.with_name(f".{file.name}.new")
    with new.open("wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    new.replace(file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
