"""Backups of a Telltale that works, some of them killed half-way, each restored elsewhere and judged."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import tarfile
import time
from contextlib import closing
from pathlib import Path
from typing import cast

import msgspec

from feature_repo import keys
from flows.embedded import embedded
from flows.state import identity
from flows.store import connect, open_store
from serving.supervisor import environment
from tests.faults.found import Found
from tests.faults.judge import verdict
from tests.faults.kills import PROCESSES
from tests.faults.ledger import Ledger
from tests.faults.plain import Plain, seed_of
from tests.faults.site import ORGANISATION, PARTITIONS
from tests.faults.tap import Logged, Tap
from tests.live import free_port

EVENTS = 600  # before a backup begins
KILLED = ("backup", "store", "lake", "supervisor", "", "")  # "": nothing
KILL_WITHIN_S = 2.0
PATIENCE_S = 120.0


class Restored(Plain):
    """What a backup of `of` holds, going on in a home of its own, told to the same webhook.

    `before`: what had been acknowledged when the backup began, and so must be there.
    """

    def __init__(self, place: Path, of: Plain, before: set[str]) -> None:
        place.mkdir()
        home = place / "home"
        super().__init__(place, 0)
        home.rmdir()
        self.settings = msgspec.structs.replace(of.settings, home=home, port=free_port())
        self.ledger = Ledger()
        self.ledger.acknowledged |= before
        self.ledger.undetermined |= (of.ledger.acknowledged | of.ledger.undetermined) - before
        self.ledger.refused |= of.ledger.refused
        self._of, self._had, self._ends, self._began_ms = of, set[str](), list[bytes](), 0.0

    def begin(self) -> None:
        self._had, self._began_ms = self._of.delivered(), time.time() * 1000
        self._tapped()
        super().begin()

    def _tapped(self) -> None:
        """A tap that knows what the log held, and so the lake, up to the moment of the backup."""
        server = embedded(self.settings.home)
        try:
            with closing(connect(self.settings)) as client:
                self._ends = [_end(client.xinfo_stream(keys.log(p))) for p in range(PARTITIONS)]
        finally:
            server.stop()
        logged = self._of.tap.logged()
        held = [each for each in logged if _place(each.entry) <= _place(self._ends[each.partition])]
        self.tap = Known(self, held, self._ends)
        self.tap.start()

    def delivered(self) -> set[str]:
        """What was told since, and of what had been told before the alerts that are ours."""
        heard = self._of.delivered()
        return (heard - self._had) | (heard & {alert["id"] for alert in self.alerts()})

    def of_later(self) -> set[str]:
        """People with an alert that came after the log's moment and before SQL's, which a backup reads just after."""
        with closing(connect(self.settings)) as client:
            store = open_store(client)
        later = set[str]()
        for alert in self.alerts():
            partition = identity(store, f"{ORGANISATION}/{alert['user']}".encode()) % PARTITIONS
            if _place(self._ends[partition])[0] < alert["scored_at"] <= self._began_ms:
                later.add(alert["user"])
        return later

    def close(self) -> None:
        self.rest()
        if hasattr(self, "tap"):
            self.tap.end()
        self.end()


class Known(Tap):
    """Begins with what another one read."""

    def __init__(self, site: Plain, held: list[Logged], ends: list[bytes]) -> None:
        super().__init__(site.settings, PARTITIONS)
        self._logged = held
        self._last = {keys.log(p): end for p, end in enumerate(ends)}


def under_load(budget: float, dice: random.Random, place: Path) -> Found:
    """Each run a backup, in most of which something is killed; what is restored holds what was acknowledged before."""
    found, until, figures = Found(), time.monotonic() + budget, list[tuple[float, float, float]]()
    while not found.runs or time.monotonic() < until:
        killed = KILLED[found.runs % len(KILLED)]
        figures.append(_one(dice, place / f"run{found.runs}", killed, found))
        found.runs += 1
    seconds, restored, size = (max(column) for column in zip(*figures, strict=True))
    found.notes |= {"backup, at most, s": seconds, "restore, at most, s": restored, "largest, MB": size}
    return found


def _one(dice: random.Random, place: Path, killed: str, found: Found) -> tuple[float, float, float]:
    """(seconds of the backup, seconds of the restore, MB)."""
    place.mkdir()
    site, file = Plain(place, seed_of(dice)), place / "backup.tar"
    try:
        site.start()
        site.write()
        site.let_through(EVENTS)
        if killed:
            _killed(site, dice, place, killed)
        before, began = set(site.ledger.acknowledged), time.monotonic()
        _until_made(site, file)
        seconds = time.monotonic() - began
        site.let_through(50)
        site.rest()
        site.end()  # two that run would both deliver
        restored = Restored(place / "restored", site, before)
        took = _restored(restored, dice, place, file)
        _judged(restored, found)
        return seconds, took, file.stat().st_size / 1e6
    finally:
        site.close()


def _killed(site: Plain, dice: random.Random, place: Path, what: str) -> None:
    """A backup during which that dies: then there is no file, or one that is whole; what is left over is no backup."""
    file = place / "killed.tar"
    process = _telltale(site, "backup", file)
    time.sleep(dice.random() * KILL_WITHIN_S)
    if what == "backup":
        process.kill()
    else:
        site.kill("up" if what == "supervisor" else PROCESSES[what])
    _, said = process.communicate(timeout=PATIENCE_S)
    if what == "supervisor":
        site.end()
        site.begin()
    assert file.exists() == (process.returncode == 0) or what == "backup", f"a failed backup left its file: {said}"
    assert process.returncode in {0, 2, -signal.SIGKILL}, said
    for left in place.glob(".*.new"):
        _refused(site, left, place / "of-a-rest")
    if file.exists():
        assert _has_manifest(file), "a backup that was killed is there in part"
    site.recovered()


def _has_manifest(file: Path) -> bool:
    with tarfile.open(file) as tar:
        return tar.getnames()[-1] == "manifest.json"


def _refused(site: Plain, file: Path, home: Path) -> None:
    """What was left of a backup that was not finished is no backup, and restoring it leaves nothing."""
    if file.stat().st_size and _whole(file):
        return  # killed between its last byte and its name
    done = _telltale(site, "restore", file, home=home)
    _, said = done.communicate(timeout=PATIENCE_S)
    assert done.returncode == 2, f"the rest of a backup was restored: {said}"
    assert not home.exists(), "a restore that was refused left something"


def _whole(file: Path) -> bool:
    try:
        return _has_manifest(file)
    except tarfile.TarError:
        return False


def _until_made(site: Plain, file: Path) -> None:
    """The store may be rewriting its log, or be coming back: then a backup says so, and is asked for again."""
    deadline = time.monotonic() + PATIENCE_S
    while (process := _telltale(site, "backup", file)).wait() != 0:
        assert time.monotonic() < deadline, process.stderr.read() if process.stderr else ""
        time.sleep(0.5)


def _restored(restored: Restored, dice: random.Random, place: Path, file: Path) -> float:
    """Killed once half-way, which leaves no home; then done. Seconds of the second time."""
    process = _telltale(restored, "restore", file)
    time.sleep(dice.random())
    process.kill()
    process.wait()
    home = restored.settings.home
    if home.exists():
        assert process.returncode == 0 or (home / "store").is_dir(), "a home is there in part"
        return 0.0
    began = time.monotonic()
    process = _telltale(restored, "restore", file)
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, said
    return time.monotonic() - began


def _judged(restored: Restored, found: Found) -> None:
    """As it stands, and after more has come: the new home goes on as the old one would have."""
    try:
        restored.begin()
        began = time.monotonic()
        restored.until_ready()
        restored.recovered()
        found.recovery_s.append(time.monotonic() - began)
        restored.write()
        restored.let_through(100)
        restored.rest()
        now = verdict(restored)
        for user in restored.of_later():
            found.notes["alerts later than the log"] = float(found.notes.get("alerts later than the log", 0)) + 1
            now.phantom.pop(f"alert of {user}", None)
            now.doubled.pop(f"alert of {user}", None)
    finally:
        restored.close()
    now.add_to(found)


def _telltale(site: Plain, command: str, file: Path, home: Path | None = None) -> subprocess.Popen[str]:
    settings = msgspec.structs.replace(site.settings, home=home or site.settings.home)
    words = [sys.executable, "-m", "serving.command", command, str(file)]
    return subprocess.Popen(
        words, env=environment(settings) | {"PYTHONUNBUFFERED": "1"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def _end(info: object) -> bytes:
    return cast(dict[str, bytes], info)["last-generated-id"]


def _place(entry: bytes) -> tuple[int, int]:
    ms, _, nth = entry.partition(b"-")
    return int(ms), int(nth)
