"""What an engine is called: the same again after a kill, and never as another one that runs."""

from __future__ import annotations

import fcntl
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import IO


@contextmanager
def named(home: Path) -> Iterator[str]:
    """Host and home, and a number from the second engine on: the first whose lock is free. It ends with its process."""
    place = home / "engines"
    place.mkdir(parents=True, exist_ok=True)
    host = socket.gethostname()
    for number in count(1):
        with (place / f"{host}-{number}").open("a") as file:
            if _locked(file):
                yield f"{host}:{home}" + (f":{number}" if number > 1 else "")
                return


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
