"""The README's domain of one's own: its commands, as they stand, on a small shop made here."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from tests import shop
from tests.test_docs import README, run


def tutorial(port: int) -> str:
    """The block as the README has it, but for the port."""
    block = next(text for text in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) if "telltale init" in text)
    return block.replace("8402", str(port))


def alerts(said: str) -> list[dict[str, str]]:
    """What the last command answered."""
    found: list[dict[str, str]] = msgspec.json.decode(said[said.rindex('{"alerts"') :])["alerts"]
    return found


def test_ten_commands_bring_a_domain_to_its_alerts(tmp_path: Path, free_port: int) -> None:
    """From nothing to alerts about those who are on the way out, in under ten commands."""
    leaving = shop.write(tmp_path)
    block = tutorial(free_port)
    assert block.count("\n") < 10
    found = alerts(run(block, tmp_path))
    assert {alert["type"] for alert in found} == {"LIKELY_TO_CANCEL"}
    people = {alert["user"] for alert in found}
    assert len(people & set(leaving)) >= len(people) / 2
