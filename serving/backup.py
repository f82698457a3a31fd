"""`telltale backup FILE`: log, state, features, keys, SQL, lake and models in one file, while Telltale runs or not.

Log, state and lake are of one moment: the store forks (BGSAVE) while the lake holds still, and the lake's files, which
never change, are linked aside; that takes milliseconds. SQL and models are read just after. What they have of later is
there under its id, so nothing is stored twice.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sqlite3
import tarfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import redis

from feature_repo.settings import Settings
from flows.embedded import embedded
from flows.lake_store import still
from flows.store import connect, open_store
from serving import archive
from serving.archive import File, Hashed, Manifest
from serving.complaint import Complaint

PATIENCE = 600.0  # seconds that the store may take to write itself
PAUSE = 0.05


def backup(settings: Settings, file: Path) -> None:
    """Writes the file: there whole, on disk, or not at all. Raises Complaint, StoreError."""
    archive.only_ours(settings)
    _refuse(settings, file)
    new = file.with_name(f".{file.name}.new")
    try:
        with archive.aside(settings.home / ".backup") as place, _store(settings) as client:
            _gather(settings, client, place)
            files = _write(new, place, Manifest(
                telltale=importlib.metadata.version("telltale"),
                created_at=datetime.now(UTC).isoformat(timespec="seconds"),
                store=open_store(client),
                files={},
            ))  # fmt: skip
        new.replace(file)
        archive.on_disk(file.absolute().parent)
    except (OSError, redis.RedisError, sqlite3.Error) as error:
        raise Complaint(f"the backup failed and {file} was not written: {error}") from error
    finally:
        new.unlink(missing_ok=True)
    print(f"{file}: {len(files)} files, {sum(one.size for one in files.values()) / 1e6:.1f} MB")


def _refuse(settings: Settings, file: Path) -> None:
    if not (settings.home / "store").is_dir():
        raise Complaint(f"there is no store in {settings.home} to save: set TELLTALE_HOME")
    if file.exists():
        raise Complaint(f"{file} is there already: name another file")
    if not file.absolute().parent.is_dir():
        raise Complaint(f"expected a directory {file.absolute().parent} for the backup, there is none")


@contextmanager
def _store(settings: Settings) -> Iterator[redis.Redis]:
    """The one that runs, or ours for as long as it takes."""
    server = embedded(settings.home)
    try:
        with closing(connect(settings)) as client:
            open_store(client)
            yield client
    finally:
        server.stop()


def _gather(settings: Settings, client: redis.Redis, place: Path) -> None:
    """All that a backup holds, under its names."""
    deadline = time.monotonic() + PATIENCE
    while not _of_one_moment(settings, client, place):
        _patient(deadline)
    while (told := _persistence(client))["rdb_bgsave_in_progress"]:
        _patient(deadline)
    if told["rdb_last_bgsave_status"] != "ok":
        raise Complaint(f"the store could not write itself: see {settings.home / 'logs' / 'store.log'}")
    (place / archive.STORE).parent.mkdir()
    (settings.home / "store" / "dump.rdb").rename(place / archive.STORE)
    _save_sql(settings.home / archive.SQL, place / archive.SQL)
    _link(settings.home / archive.MODELS, place / archive.MODELS)


def _of_one_moment(settings: Settings, client: redis.Redis, place: Path) -> bool:
    """Whether the store forked: not, while it rewrites its log."""
    with still(settings.lake):
        if _persistence(client)["aof_rewrite_in_progress"] or _persistence(client)["rdb_bgsave_in_progress"]:
            return False
        client.bgsave()
        _link(settings.lake, place / archive.LAKE)
        return True


def _persistence(client: redis.Redis) -> dict[str, Any]:
    found: Any = client.info("persistence")
    return dict(found)


def _patient(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise Complaint(f"the store has not written itself within {PATIENCE:.0f} s")
    time.sleep(PAUSE)


def _save_sql(database: Path, to: Path) -> None:
    if database.exists():
        with (
            closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(to)) as target,
        ):
            source.backup(target)


def _link(tree: Path, to: Path) -> None:
    """What lies in the tree now: each of its files is replaced as a whole, so a link keeps what it was.

    A registry goes before its versions, so that it names none that is not there.
    """
    found = (path for path in tree.rglob("*") if path.is_file() and _kept(path.relative_to(tree)))
    for path in sorted(found, key=lambda path: path.suffix != ".json"):
        aim = to / path.relative_to(tree)
        aim.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, aim)
        except OSError:  # it lies on another file system
            shutil.copy2(path, aim)


def _kept(path: Path) -> bool:
    """What is half written has a dot before its name or `.new` behind it."""
    return not any(part.startswith(".") for part in path.parts) and path.suffix != ".new"


def _write(new: Path, place: Path, manifest: Manifest) -> dict[str, File]:
    with new.open("wb") as out, tarfile.open(fileobj=out, mode="w") as tar:
        for path in sorted(path for path in place.rglob("*") if path.is_file()):
            name = path.relative_to(place).as_posix()
            with path.open("rb") as file:
                hashed = Hashed(file)
                info = tarfile.TarInfo(name)
                info.size, info.mode = path.stat().st_size, 0o600
                tar.addfile(info, hashed)
            manifest.files[name] = hashed.seen
        text = msgspec.json.encode(manifest)
        info = tarfile.TarInfo(archive.MANIFEST)
        info.size, info.mode = len(text), 0o600
        tar.addfile(info, BytesIO(text))
    archive.on_disk(new)
    return manifest.files
