"""Versions on their way into the registry: the process that makes one holds its lock, so its death shows."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from onnx_models.library import Library, me
from onnx_models.registry import Conflict

UNDER_WAY = ("TRAINING", "VALIDATING")
KILLED = "the process that made it ended before it was done"


@contextlib.contextmanager
def making(library: Library, name: str, version: str) -> Iterator[None]:
    """While this process makes the version; the lock ends with it, killed or not."""
    file = _lock(library, name, version)
    file.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        file.unlink(missing_ok=True)
        os.close(handle)


def is_made(library: Library, name: str, version: str) -> bool:
    """Whether a process lives that makes it."""
    try:
        handle = os.open(_lock(library, name, version), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def bury(library: Library, name: str) -> bool:
    """Retires the versions whose makers died: they are never deployed. Whether any is still made. Raises Damaged."""
    alive = False
    for version in [v for v, state in library.book(name).states.items() if state in UNDER_WAY]:
        if is_made(library, name, version):
            alive = True
            continue
        with contextlib.suppress(Conflict):  # it came to its end as we looked, or another process was first
            if library.book(name).states.get(version) in UNDER_WAY:
                library.retire(name, version, me(), KILLED)
                _lock(library, name, version).unlink(missing_ok=True)
    return alive


def _lock(library: Library, name: str, version: str) -> Path:
    return library.places[0] / name / f"{version}.making"
