"""No README shows a command that no test runs."""

from __future__ import annotations

import re

import pytest

from tests import shown


@pytest.mark.parametrize(("page", "command"), sorted(set(shown.shown())))
def test_every_command_in_the_text_is_run(page: str, command: str) -> None:
    """It stands in `shown.py`, or in a fenced block, or there it is said who runs it."""
    assert shown.is_run(command), f"{page} shows `{command}`: run it in tests/shown.py"


@pytest.mark.parametrize("page", shown.PAGES)
def test_every_fenced_block_is_run(page: str) -> None:
    """Each is named once, with the test that runs it as it stands."""
    for text in shown.blocks(page):
        of = [begins for where, begins in shown.BLOCKS if where == page and f"\n{begins}" in f"\n{text}"]
        assert len(of) == 1, f"{page}: expected one line in BLOCKS for this block, found {of}:\n{text}"


def test_every_make_target_is_run() -> None:
    """Those that `make help` lists."""
    targets = re.findall(r"^([a-z]+):.*## \w", shown.read("Makefile"), re.MULTILINE)
    assert [target for target in targets if not shown.is_run(f"make {target}")] == []


def test_no_line_is_left_of_a_block_that_went() -> None:
    """Blocks are found by it."""
    assert all(shown.block(page, begins) for page, begins in shown.BLOCKS)
