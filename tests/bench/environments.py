"""Environments of what stands beside us in a benchmark: their dependencies exclude each other, and ours.

Made by pip in the user's cache when first needed, which takes minutes, and kept there. A half-made one is made again.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_MADE = "telltale-made"  # in it: by which Python of which packages, once all are there
_LIST = """
import importlib.metadata, json
print(json.dumps({each.metadata["name"]: each.version for each in importlib.metadata.distributions()}))
"""


class Missing(RuntimeError):
    """What a contender needs and is not to be had here."""


def cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "telltale-bench"


def environment(name: str, *packages: str) -> Path:
    """The directory of its programs. Raises Missing when it cannot be made."""
    place = cache() / name
    with _alone(place):
        if not _whole(place, packages):
            _make(place, packages)
    return place / "bin"


def beside(name: str, *packages: str) -> Path:
    """A directory for PYTHONPATH of packages that go with ours but are no dependency. Raises Missing."""
    place = cache() / name
    made = place / _MADE
    with _alone(place):
        if not made.exists() or made.read_text() != _wanted(packages):
            sys.stderr.write(f"installing {', '.join(packages)} into {place}\n")
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--upgrade", "--target", str(place)]
            _do([*pip, *packages])
            made.write_text(_wanted(packages))
    return place


def versions(programs: Path, *packages: str) -> dict[str, str]:
    """What an environment has of these packages, which may be given as for pip; with its Python."""
    said = subprocess.run([programs / "python", "-c", _LIST], capture_output=True, text=True, check=True).stdout
    return _chosen(json.loads(said), packages) | {"python": platform.python_version()}


def installed(*packages: str) -> dict[str, str]:
    """The same of our own environment."""
    return _chosen({each.metadata["name"]: each.version for each in importlib.metadata.distributions()}, packages)


def _chosen(found: dict[str, str], packages: tuple[str, ...]) -> dict[str, str]:
    there = {_plain(name): version for name, version in found.items()}
    names = [re.split(r"[\[=<>~!; ]", package)[0] for package in packages]
    return {name: there[_plain(name)] for name in names if _plain(name) in there}


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _wanted(packages: tuple[str, ...]) -> str:
    return "\n".join([f"python {platform.python_version()}", *packages])


def _whole(place: Path, packages: tuple[str, ...]) -> bool:
    """Whether all was installed, by a Python that still stands."""
    made = place / _MADE
    return made.exists() and made.read_text() == _wanted(packages) and (place / "bin" / "python").exists()


def _make(place: Path, packages: tuple[str, ...]) -> None:
    sys.stderr.write(f"installing {', '.join(packages)} into {place}\n")
    (place / _MADE).unlink(missing_ok=True)
    _do([sys.executable, "-m", "venv", "--clear", str(place)])
    if packages:
        _do([str(place / "bin" / "python"), "-m", "pip", "install", "--quiet", *packages])
    (place / _MADE).write_text(_wanted(packages))


def _do(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        errors = [line for line in said if line.startswith("ERROR")]
        raise Missing((errors or said or [f"{command[0]} ended with {done.returncode}"])[-1].strip())


@contextlib.contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Two benchmarks do not make one environment at once."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_name(f"{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
