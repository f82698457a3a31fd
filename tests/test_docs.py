"""What is public is documented, and what the README says is true when run."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from feature_repo.settings import Settings
from serving.command import parser

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
ROOMS = ("feature_repo", "flows", "onnx_models", "serving", "training")


def commands() -> list[str]:
    return re.findall(r"^    ([a-z]+) ", parser().format_help(), re.MULTILINE)


@pytest.mark.parametrize("command", commands())
def test_every_command_is_documented(command: str) -> None:
    """It has a row of its own in the README's table."""
    assert re.search(rf"^\| `telltale {command}\b.*` \| \w", README, re.MULTILINE)


@pytest.mark.parametrize("field", Settings.__struct_fields__)
def test_every_setting_is_documented_with_its_default(field: str) -> None:
    """The README's table has the variable, and the default that the code has."""
    rows = [row for row in README.splitlines() if row.startswith("|") and f"`TELLTALE_{field.upper()}`" in row]
    assert len(rows) == 1
    default = str(getattr(Settings(), field))
    names, told = (re.findall(r"`([^`]*)`", cell) for cell in rows[0].split("|")[1:3])
    assert (told[names.index(f"TELLTALE_{field.upper()}")] if told else "") == default


def test_every_make_target_has_a_word_of_help() -> None:
    """`make help` leaves nothing out."""
    makefile = (ROOT / "Makefile").read_text()
    declared = next(line for line in makefile.splitlines() if line.startswith(".PHONY:")).split()[1:]
    assert set(declared) == set(re.findall(r"^([a-z]+):.*## \w", makefile, re.MULTILINE))
    assert makefile.count("\n") < 60


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_says_what_it_is_for_and_how_to_add_to_it(room: str) -> None:
    """Its README has numbered steps that end in the check command."""
    text = (ROOT / room / "README.md").read_text()
    assert re.search(r"^#+ .*\badd\b", text, re.MULTILINE | re.IGNORECASE)
    assert re.search(r"^1\. ", text, re.MULTILINE)
    assert "make check" in text


def test_links_lead_somewhere() -> None:
    """Every relative link of every README names a file that exists."""
    for page in (ROOT / "README.md", *(ROOT / room / "README.md" for room in ROOMS)):
        for link in re.findall(r"\]\((?!http|#)([^)#]+)", page.read_text()):
            assert (page.parent / link).exists(), f"{page}: {link}"


def test_the_example_stands_early_and_runs(tmp_path: Path, free_port: int) -> None:
    """The README's second block does what it says, as it stands but for the port, within the first 40 lines."""
    example = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)[1]
    assert README[: README.index(example)].count("\n") + example.count("\n") < 40
    said = run(example.replace("8401", str(free_port)), tmp_path)
    assert '"success":true' in said
    assert '"doc_access_count_30d":{"value":1.0' in said
    assert re.search(r"doc_access_count_30d 1\b", said)


def run(script: str, place: Path) -> str:
    """What the script prints; whatever it left running is ended."""
    environ = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "200"}
    shell = subprocess.Popen(
        ["sh", "-ec", script], cwd=place, env=environ, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        said, _ = shell.communicate(timeout=60)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGTERM)
    assert shell.returncode == 0, said
    return said
