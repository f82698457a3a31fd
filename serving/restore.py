"""`telltale restore FILE`: a backup into a home where nothing is yet.

It is unpacked and tried beside the home and then renamed into its place: the home is there whole, or as it was.
"""

from __future__ import annotations

import os
import shutil
import tarfile
from contextlib import closing
from pathlib import Path

import msgspec

from feature_repo.settings import Settings
from flows.embedded import embedded
from flows.store import Store, StoreError, connect, open_store
from serving import archive
from serving.archive import FORMAT, MANIFEST, File, Hashed, Manifest
from serving.complaint import Complaint

LARGEST_MANIFEST = 256 << 20  # bytes: a million files


def restore(settings: Settings, file: Path) -> None:
    """Raises Complaint, StoreError; then the home is as it was."""
    archive.only_ours(settings)
    home = settings.home
    if home.exists() and (not home.is_dir() or any(home.iterdir())):
        raise Complaint(f"{home} is not empty: a backup is restored into a new TELLTALE_HOME")
    with archive.aside(home.with_name(f".{home.name}.restoring")) as place:
        try:
            manifest = _unpack(file, place / "home")
            _try(settings, place / "home", manifest.store)
            (place / "home").rename(home)
            archive.on_disk(home.parent)
        except tarfile.TarError as error:
            raise Complaint(f"{file} is no backup of Telltale: {error}") from error
        except OSError as error:
            raise Complaint(f"the restore failed, {home} is as it was: {error}") from error
    print(f"{home} is as it was on {manifest.created_at}; `telltale up` goes on from there")


def _unpack(file: Path, place: Path) -> Manifest:
    """Raises Complaint unless all is there, and is what the manifest says."""
    found: dict[str, File] = {}
    manifest: Manifest | None = None
    place.mkdir()
    with tarfile.open(file, "r:") as tar:
        for member in tar:
            name = archive.sound(member)
            if manifest is not None or name in found:
                raise Complaint(f"{file} is no backup of Telltale: {name} comes twice or after the manifest")
            if name == MANIFEST:
                manifest = _manifest(file, tar, member)
            else:
                found[name] = _file(tar, member, place / name)
    if manifest is None:
        raise Complaint(f"{file} was cut off: it ends before its manifest")
    if wrong := [name for name in {*found, *manifest.files} if found.get(name) != manifest.files.get(name)]:
        raise Complaint(f"{file} is damaged: {min(wrong)} is not what was saved")
    return manifest


def _manifest(file: Path, tar: tarfile.TarFile, member: tarfile.TarInfo) -> Manifest:
    text = tar.extractfile(member)
    if text is None or member.size > LARGEST_MANIFEST:
        raise Complaint(f"{file} is no backup of Telltale: its manifest has {member.size} bytes")
    try:
        manifest = msgspec.json.decode(text.read(), type=Manifest)
    except msgspec.MsgspecError as error:
        raise Complaint(f"{file} is damaged: its manifest cannot be read: {error}") from error
    if manifest.format != FORMAT:
        raise Complaint(f"{file} has format {manifest.format}, this Telltale reads format {FORMAT}")
    return manifest


def _file(tar: tarfile.TarFile, member: tarfile.TarInfo, to: Path) -> File:
    to.parent.mkdir(parents=True, exist_ok=True)
    packed = tar.extractfile(member)
    if packed is None:
        raise Complaint(f"this is no backup of Telltale: {member.name} is no file")
    hashed = Hashed(packed)
    with to.open("xb") as out:
        shutil.copyfileobj(hashed, out, 1 << 20)
        out.flush()
        os.fsync(out.fileno())
    return hashed.seen


def _try(settings: Settings, place: Path, expected: Store) -> None:
    """The store is started once, so that a backup that it cannot load is known now. Raises Complaint, StoreError."""
    here = msgspec.structs.replace(settings, home=place)
    server = embedded(place)
    try:
        with closing(connect(here)) as client:
            found = open_store(client)
    except StoreError as error:
        raise Complaint(f"the saved store does not come up: {error}") from error
    finally:
        server.stop()
    if found != expected:
        raise Complaint(f"expected a store of {expected}, the saved one is {found}")
    for name in ("address", "owner", "data", "valkey.sock"):
        (place / "store" / name).unlink(missing_ok=True)
