"""`make install`: the environment, once, or one clear line."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What `make install` looks at."""
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def make(checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", "-s", *words], cwd=checkout, capture_output=True, text=True, check=False)


def test_a_wrong_python_is_named(checkout: Path) -> None:
    """3.13 is refused with what is needed and what came; nothing is built."""
    wrong = checkout / "python"
    wrong.write_text("#!/bin/sh\n[ \"$1\" = -V ] && echo 'Python 3.13.0'\nexit 1\n")
    wrong.chmod(0o755)
    done = make(checkout, "install", f"PYTHON={wrong}")
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == f"Telltale needs Python 3.11 or 3.12, {wrong} is Python 3.13.0."
    assert not (checkout / ".venv").exists()


def test_no_python_is_named(checkout: Path) -> None:
    """The line says what to do."""
    done = make(checkout, "install", "PYTHON=")
    assert done.returncode == 2
    assert done.stderr.startswith("Telltale needs Python 3.11 or 3.12 with venv")
    assert "make install PYTHON=" in done.stderr.splitlines()[0]


def test_an_environment_that_stands_is_left_alone(checkout: Path) -> None:
    """Until the lock file changes there is nothing to do."""
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / ".installed").touch()
    assert make(checkout, "-q", "install").returncode == 0
    later = (checkout / ".venv" / ".installed").stat().st_mtime + 10
    os.utime(checkout / "requirements.lock", (later, later))
    assert make(checkout, "-q", "install").returncode == 1
