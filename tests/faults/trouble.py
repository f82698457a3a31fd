"""Trouble on order for whole processes: disks that fail or are slow, a clock that is off, a death at an exact point.

All processes of a site share one page of memory, a file: `interpose.c`, loaded before the C library's own functions,
and `mortal.py` look there at each step. It also holds how much of each file was synced, whoever was killed when.
"""

from __future__ import annotations

import mmap
import os
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SOURCE = Path(__file__).with_name("interpose.c")
ENVIRON = "TROUBLE"
FILES = 8192
HEAD = 8  # numbers before the files
WRITE_ERRNO, SYNC_ERRNO, SYNC_DELAY_US, CLOCK_MS, ARMED, NTH = range(6)
_NUMBER = struct.Struct("<q")


class Page:
    """The shared page, a number of 64 bits at a time."""

    def __init__(self, path: Path) -> None:
        size = _NUMBER.size * (HEAD + 2 * FILES)
        with path.open("a+b") as file:
            file.truncate(size)
            self._memory = mmap.mmap(file.fileno(), size)

    def __getitem__(self, slot: int) -> int:
        return int(_NUMBER.unpack_from(self._memory, slot * _NUMBER.size)[0])

    def __setitem__(self, slot: int, value: int) -> None:
        _NUMBER.pack_into(self._memory, slot * _NUMBER.size, value)

    def synced(self) -> dict[int, int]:
        """Inode -> bytes that its last sync made safe."""
        pairs = ((self[HEAD + 2 * i], self[HEAD + 2 * i + 1]) for i in range(FILES))
        return {inode: size for inode, size in pairs if inode}

    def forget_syncs(self) -> None:
        self._memory[HEAD * _NUMBER.size :] = bytes(2 * FILES * _NUMBER.size)


def missing() -> str:
    """Why there can be no such trouble here; empty where there can."""
    if sys.platform != "linux":
        return "LD_PRELOAD needs Linux"
    return "" if shutil.which("cc") else "no C compiler (cc) to build tests/faults/interpose.c with"


class Trouble:
    """What a site's processes are given to meet; `environ` is theirs."""

    def __init__(self, place: Path) -> None:
        path, library = place / "trouble", place / "interpose.so"
        self.page = Page(path)
        build = ["cc", "-shared", "-fPIC", "-O2", "-o", str(library), str(SOURCE), "-ldl"]
        subprocess.run(build, check=True, capture_output=True)
        self.environ = {ENVIRON: str(path), "LD_PRELOAD": str(library)}

    @contextmanager
    def on(self, slot: int, value: int) -> Iterator[None]:
        """While it lasts."""
        self.page[slot] = value
        try:
            yield
        finally:
            self.page[slot] = 0

    def arm(self, point: int, nth: int) -> None:
        """Whoever crosses this point for the n-th time from now on dies there."""
        self.page[NTH], self.page[ARMED] = nth, point

    def until_crossed(self, patience: float = 30.0) -> None:
        """Until somebody has died. AssertionError where nobody came by."""
        deadline = time.monotonic() + patience
        while self.page[ARMED]:
            assert time.monotonic() < deadline, f"nobody crossed point {self.page[ARMED]} within {patience:.0f} s"
            time.sleep(0.002)

    def cut(self, home: Path) -> int:
        """What a power loss leaves: each file as far as it was synced. Returns how many bytes went."""
        synced, gone = self.page.synced(), 0
        for path in [path for path in home.rglob("*") if path.is_file() and not path.is_symlink()]:
            there = path.stat()
            safe = min(synced.get(there.st_ino, 0), there.st_size)
            gone += there.st_size - safe
            os.truncate(path, safe)
        return gone
