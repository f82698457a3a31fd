"""What a backup holds: a tar of plain files, last of them a manifest with the size and sha256 of each."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

import msgspec
import sqlalchemy as sa

from feature_repo.settings import Settings
from flows.store import Store
from serving.complaint import Complaint

FORMAT = 1
MANIFEST = "manifest.json"
STORE = "store/appendonly.aof"  # as the embedded store begins with it: an RDB is the start of an append-only file
SQL = "telltale.db"
LAKE, MODELS = "lake", "onnx_models"
_ROOMS = {"store", LAKE, MODELS}


class File(msgspec.Struct, frozen=True):
    """`size` in bytes, `sha256` in hex."""

    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """`created_at`: ISO 8601. `store`: as it was created."""

    format: int = FORMAT
    telltale: str
    created_at: str
    store: Store
    files: dict[str, File]


def only_ours(settings: Settings) -> None:
    """Raises Complaint where store or database are the user's own: those are saved by their own means."""
    if settings.redis_url:
        raise Complaint("backup and restore are of the embedded store: save your own TELLTALE_REDIS_URL itself")
    if sa.make_url(settings.database) != sa.make_url(f"sqlite:///{settings.home / SQL}"):
        raise Complaint("backup and restore are of the home's SQLite: save your own TELLTALE_DATABASE_URL itself")


def sound(member: tarfile.TarInfo) -> str:
    """The member's name. Raises Complaint for what no backup of ours holds: links, devices, names that lead away."""
    path = PurePosixPath(member.name)
    plain = member.type in {tarfile.REGTYPE, tarfile.AREGTYPE} and not member.issparse()
    inside = not path.is_absolute() and ".." not in path.parts and str(path) == member.name and "\\" not in member.name
    known = member.name in {MANIFEST, SQL} or (len(path.parts) > 1 and path.parts[0] in _ROOMS)
    if not (plain and inside and known):
        raise Complaint(f"this is no backup of Telltale: it holds {member.name[:200]!r}, which no backup does")
    return member.name


class Hashed:
    """A file that is read once, front to back, and what was read so far."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._sha256, self._size = file, hashlib.sha256(), 0

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(size)
        self._sha256.update(piece)
        self._size += len(piece)
        return piece

    @property
    def seen(self) -> File:
        return File(self._size, self._sha256.hexdigest())


@contextmanager
def aside(place: Path) -> Iterator[Path]:
    """An empty directory to work in, gone in the end. Raises Complaint while another process works there."""
    place.mkdir(parents=True, exist_ok=True)
    handle = os.open(place, os.O_RDONLY)
    try:
        _take(place, handle)
        try:
            for left in place.iterdir():  # by one that was killed
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)
    finally:
        os.close(handle)


def _take(place: Path, handle: int) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Complaint(f"another backup or restore works in {place}: let it end first") from None


def on_disk(path: Path) -> None:
    """A file's bytes or a directory's names."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
