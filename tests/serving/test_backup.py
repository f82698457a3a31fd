"""A backup of a running Telltale, restored elsewhere: all that was acknowledged before it is there once."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest

from feature_repo import keys
from feature_repo.settings import Settings
from flows import lake_files as files
from flows.store import connect, create, embedded, open_store
from serving.archive import MANIFEST, STORE
from serving.backup import backup
from serving.client import Door
from serving.complaint import Complaint
from serving.restore import restore
from serving.supervisor import environment
from tests.faults.test_kills import until_worked
from tests.live import free_port
from tests.running_up import TELLTALE, Up, door_of, start

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
PATIENCE = 30.0
NOON = "2026-03-01T12:00:00Z"


def run(settings: Settings, *words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [*TELLTALE, *map(str, words)]
    return subprocess.run(command, env=environment(settings), capture_output=True, text=True, check=False)


class Writer(threading.Thread):
    """Posts one batch after another until told to end; `acknowledged` are the events that were."""

    def __init__(self, door: Door) -> None:
        super().__init__(daemon=True)
        self.door, self.acknowledged, self.ending = door, 0, threading.Event()
        self.start()

    def run(self) -> None:
        while not self.ending.is_set():
            post(self.door, range(self.acknowledged, self.acknowledged + 10))
            self.acknowledged += 10
        self.door.close()

    def until(self, events: int) -> int:
        while self.acknowledged < events:
            assert self.is_alive()
            self.ending.wait(0.01)
        return self.acknowledged


def post(door: Door, numbers: range) -> None:
    calls = [
        {"type": "track", "userId": f"u{n % 7}", "event": "Document Viewed", "messageId": f"m{n}", "timestamp": NOON}
        for n in numbers
    ]
    door.post("/v1/batch", msgspec.json.encode({"batch": calls}), {})


def counted(door: Door) -> int:
    found = (door.json(f"/v1/users/u{i}/features")["features"]["doc_access_count_30d"]["value"] for i in range(7))
    return round(sum(found))


def in_the_lake(settings: Settings) -> list[str]:
    """As readers see it, who leave out what lies within another file."""
    found: list[str] = []
    with suppress(FileNotFoundError):  # merged as we looked
        for file in files.current(files.everything(settings.lake)):
            found += pq.read_table(file.path, columns=["message_id"])["message_id"].to_pylist()
    return found


def soon(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def test_a_backup_of_a_running_store_goes_on_elsewhere(up: Up, tmp_path: Path) -> None:
    """Events, features, keys, models and lake: what was acknowledged before is there, and each once."""
    file = tmp_path / "backup.tar"
    other = msgspec.structs.replace(up.settings, home=tmp_path / "other", port=free_port())
    with closing(door_of(up)) as door:
        writer = Writer(door.again())
        before = writer.until(500)
        made = run(up.settings, "backup", file)
        after = writer.until(writer.acknowledged + 20)
        writer.ending.set()
        writer.join(PATIENCE)
        key = door.key
    assert made.returncode == 0, made.stderr
    up.end()
    done = run(other, "restore", file)
    assert done.returncode == 0, done.stderr
    other.home.joinpath("out").touch()
    with closing(start(other)) as again, closing(Door(other, key)) as door:
        door_of(again).close()
        held = round(until_worked(door)["processed"])
        assert before <= held == counted(door) <= after
        for first in range(0, after, 1000):
            post(door, range(first, min(first + 1000, after)))  # sent again: what the backup has is known
        soon(lambda: counted(door) == after)
        soon(lambda: len(in_the_lake(other)) >= after + held)
    names = in_the_lake(other)
    assert len({*names}) == after
    assert len(names) == after + held  # the lake keeps resent messages as often as they came


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The backup of a store that nobody runs, with a model and a lake of one file."""
    home = tmp_path_factory.mktemp("saved")
    settings = Settings(home=home / "home", partitions=2)
    server = embedded(settings.home)
    with closing(connect(settings)) as client:
        create(client, settings)
        client.hset(keys.KEYS, "key", "org")
    server.stop()
    for name in ("onnx_models/likely/registry.json", "lake/events/date=2026-03-01/0-1-0-2-0.parquet"):
        (settings.home / name).parent.mkdir(parents=True)
        (settings.home / name).write_text(name)
    backup(settings, home / "backup.tar")
    return home / "backup.tar"


def test_keys_models_and_lake_come_back(saved: Path, tmp_path: Path) -> None:
    """And the embedded store starts with them, though it was not running when it was saved."""
    settings = Settings(home=tmp_path / "home")
    restore(settings, saved)
    server = embedded(settings.home)
    try:
        with closing(connect(settings)) as client:
            assert client.hgetall(keys.KEYS) == {b"key": b"org"}
            assert open_store(client).partitions == 2
    finally:
        server.stop()
    for name in ("onnx_models/likely/registry.json", "lake/events/date=2026-03-01/0-1-0-2-0.parquet"):
        assert (settings.home / name).read_text() == name


def test_a_home_that_is_not_empty_is_left_alone(saved: Path, tmp_path: Path) -> None:
    """Nobody's data is written over."""
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(Complaint, match="not empty"):
        restore(Settings(home=tmp_path), saved)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("which", [{"redis_url": "redis://elsewhere"}, {"database_url": "postgresql://elsewhere/db"}])
def test_what_is_not_ours_is_not_saved_in_part(saved: Path, tmp_path: Path, which: dict[str, str]) -> None:
    """A Redis or database of the user's own is saved by its own means: we say so, and do nothing."""
    settings = Settings(home=tmp_path / "home", **which)  # type: ignore[arg-type]
    for act in (backup, restore):
        with pytest.raises(Complaint, match="save your own TELLTALE_"):
            act(settings, saved)


def test_a_backup_is_never_written_over(saved: Path, tmp_path: Path) -> None:
    """Nor does one remain that was not finished."""
    (tmp_path / "home" / "store").mkdir(parents=True)
    with pytest.raises(Complaint, match="is there already"):
        backup(Settings(home=tmp_path / "home"), saved)


def test_a_flipped_byte_is_found(saved: Path, tmp_path: Path) -> None:
    """Wherever it is in a file's content."""
    content = bytearray(saved.read_bytes())
    content[content.index(b"lake/events/date", 512 + 512) + 5] ^= 1
    refused(content, tmp_path, "damaged|no backup")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_file_that_was_cut_off_is_found(saved: Path, tmp_path: Path, share: float) -> None:
    """Down to nothing."""
    content = saved.read_bytes()
    refused(content[: int(len(content.rstrip(b"\0")) * share)], tmp_path, "cut off|no backup|damaged")


def member(name: str, **more: Any) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    for attribute, value in more.items():
        setattr(made, attribute, value)
    return made


@pytest.mark.parametrize(
    "trick",
    [
        member("../outside"),
        member("/tmp/outside"),
        member("lake/../../outside"),
        member("lake//outside"),
        member("outside"),
        member("lake"),
        member("lake/link", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        member("lake/link", type=tarfile.LNKTYPE, linkname=STORE),
        member("lake/device", type=tarfile.CHRTYPE),
        member("lake/directory", type=tarfile.DIRTYPE),
        member(STORE),
    ],
    ids=lambda info: f"{info.name}-{info.type.decode()}",
)
def test_a_file_that_would_write_elsewhere_is_refused(saved: Path, tmp_path: Path, trick: tarfile.TarInfo) -> None:
    """Absolute names, names that lead away, links, devices, and the same name twice."""
    made = BytesIO()
    with tarfile.open(saved) as good, tarfile.open(fileobj=made, mode="w") as bad:
        for info in good:
            if info.name == MANIFEST:
                bad.addfile(trick)
            bad.addfile(info, good.extractfile(info))
    refused(made.getvalue(), tmp_path, "no backup of Telltale")


def refused(content: bytes | bytearray, tmp_path: Path, why: str) -> None:
    """With one line, and nothing is left behind."""
    file = tmp_path / "bad.tar"
    file.write_bytes(content)
    with pytest.raises(Complaint, match=why):
        restore(Settings(home=tmp_path / "home"), file)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.tar"]
