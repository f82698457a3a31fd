"""A `telltale up` as its user runs it, for the tests that need everything at once."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import IO

import msgspec
import redis

from feature_repo.settings import Settings
from flows.store import StoreError, connect
from serving import write_keys
from serving.client import Closed, Door, Turned
from serving.supervisor import environment

TELLTALE = (sys.executable, "-m", "serving.command")


class Up(msgspec.Struct):
    """A `telltale up` that runs."""

    settings: Settings
    process: subprocess.Popen[bytes]
    out: IO[bytes]

    def pids(self, what: str) -> list[int]:
        """Its children that run this module, or this program."""
        return [pid for pid in children(self.process.pid) if what in command_of(pid)]

    def end(self) -> float:
        """Ctrl-C; the seconds until all had ended."""
        begun = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        self.process.wait(20)
        return time.monotonic() - begun

    def close(self) -> None:
        """Ends what still runs."""
        if self.process.poll() is None:
            self.end()
        self.out.close()


def children(parent: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended while we looked
            pid, _, rest = stat.read_text().partition(" (")
            if int(rest.rpartition(")")[2].split()[1]) == parent:
                found.append(int(pid))
    return found


def command_of(pid: int) -> str:
    """Nothing of a process that has ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


def start(settings: Settings) -> Up:
    out = (settings.home / "out").open("ab")
    process = subprocess.Popen([*TELLTALE, "up"], env=environment(settings), stdout=out, stderr=out)
    return Up(settings, process, out)


PATIENCE_S = 60.0  # a busy machine starts everything in half of that


def eventually(door: Door, path: str, patience: float = PATIENCE_S) -> str:
    """What is there as soon as it answers well."""
    deadline = time.monotonic() + patience
    while True:
        with suppress(Closed, Turned):
            return door.text(path)
        assert time.monotonic() < deadline, (
            f"{path} does not answer well after {patience:.0f} s: {_said(door.settings)}"
        )
        time.sleep(0.05)


def _said(settings: Settings) -> str:
    out = settings.home / "out"
    return out.read_text() if out.exists() else ""


def door_of(up: Up) -> Door:
    """With the first write key, once everything is ready."""
    with closing(Door(up.settings, "")) as anybody:
        eventually(anybody, "/healthz")
    with ExitStack() as stack:
        door = stack.enter_context(closing(Door(up.settings, _first_key(up.settings))))
        eventually(door, "/readyz")
        stack.pop_all()
    return door


def _first_key(settings: Settings) -> str:
    """Also while the store comes back."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        with suppress(StoreError, redis.RedisError), closing(connect(settings)) as client:
            return write_keys.first(client)[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
