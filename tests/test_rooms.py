"""The rooms import only those below them, and Feast stays out of the processes that run."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "feature_repo": set[str](),
    "onnx_models": {"feature_repo"},
    "flows": {"feature_repo", "onnx_models"},
    "training": {"feature_repo", "onnx_models", "flows"},
    "serving": {"feature_repo", "onnx_models", "flows"},
}


def imports(path: Path) -> set[str]:
    """Top-level names that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_those_below_it(room: str) -> None:
    """The table in this file is the rule."""
    forbidden = {*MAY_IMPORT, "tests"} - MAY_IMPORT[room] - {room}
    found = {f"{path.name}: {name}" for path in (ROOT / room).rglob("*.py") for name in imports(path) & forbidden}
    assert found == set()


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_says_what_each_file_is_for(room: str) -> None:
    """Its README names every file, by itself or by a pattern such as `page*.py`."""
    named = re.findall(r"[\w*]+\.py", (ROOT / room / "README.md").read_text())
    files = {path.name for path in (ROOT / room).glob("*.py")} - {"__init__.py", "__main__.py"}
    assert {file for file in files if not any(fnmatch(file, name) for name in named)} == set()


def test_feast_is_imported_by_one_file_alone() -> None:
    """The one that `feast apply` reads."""
    found = {path for room in MAY_IMPORT for path in (ROOT / room).rglob("*.py") if "feast" in imports(path)}
    assert found == {ROOT / "feature_repo" / "feast_objects.py"}


@pytest.mark.parametrize(
    "process",
    ["serving.app", "flows.alerting", "flows.lake", "flows.alert_drain", "flows.delivering", "serving.feature_server"],
)
def test_feast_stays_out_of_the_processes_that_run(process: str) -> None:
    """Importing Feast takes 5 s and 179 MB."""
    code = f"import sys, {process}; print('feast' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
