"""What `make` makes, in a checkout so small that it takes seconds."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shown import MAKE, ROOT, Run

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
TEST = '"""A test."""\n\n\ndef test_it_runs() -> None:\n    """It does."""\n    assert True\n'
PATHS = ("feature_repo", "onnx_models", "flows", "training", "serving", "tests")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its Makefile and settings are ours, and so is its environment."""
    found = tmp_path_factory.mktemp("checkout")
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, found)
        os.utime(found / name, (0, 0))  # older than the environment, also to a make that make calls
    for room in PATHS:
        (found / room).mkdir()
        (found / room / "empty.py").write_text('"""Nothing."""\n')
    (found / "tests" / "faults").mkdir()
    (found / "tests" / "faults" / "test_small.py").write_text(TEST)
    (found / ".venv").symlink_to(sys.prefix)
    return found


@pytest.mark.parametrize("run", MAKE, ids=lambda run: run.line)
def test_a_target_does_what_help_says(checkout: Path, run: Run) -> None:
    """With the real programs; that the environment stands is taken as given."""
    line = run.line.replace("make ", "make -o .venv/.installed ")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(["sh", "-ec", line], cwd=checkout, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode in run.codes, done.stdout + done.stderr
    assert re.search(run.says, done.stdout), done.stdout + done.stderr
