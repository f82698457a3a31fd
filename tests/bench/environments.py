"""Environments of what stands beside us in a benchmark: their dependencies exclude each other, and ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_MADE = "telltale-made"  # in it: the packages, once all are there


def environment(name: str, *packages: str) -> Path:
    """The directory of its programs; made by pip in the user's cache, which takes minutes, once a list of packages."""
    cache = _cache() / name
    programs, made, wanted = cache / "bin", cache / _MADE, "\n".join(packages)
    if not made.exists() or made.read_text() != wanted:
        print(f"installing {', '.join(packages)} into {cache}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", cache], check=True)
        subprocess.run([programs / "pip", "install", "--quiet", *packages], check=True, stdout=sys.stderr)
        made.write_text(wanted)
    return programs


def beside(name: str, *packages: str) -> Path:
    """A directory for PYTHONPATH that holds packages which go with ours but are no dependency; made as above."""
    home = _cache() / f"{name}-{sys.version_info.major}.{sys.version_info.minor}"
    made, wanted = home / _MADE, "\n".join(packages)
    if not made.exists() or made.read_text() != wanted:
        print(f"installing {', '.join(packages)} into {home}", file=sys.stderr)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--upgrade", "--target", str(home)]
        subprocess.run([*pip, *packages], check=True, stdout=sys.stderr)
        made.write_text(wanted)
    return home


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "telltale-bench"
