"""What the commands of a command share: `telltale models ...`, `features ...`, `delivery ...`, `learning ...`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001  # it has no public name


def add(commands: Commands, name: str, says: str, do: Callable[..., Any]) -> argparse.ArgumentParser:
    """One of them; `given.do` is what it does."""
    one = commands.add_parser(name, help=says, description=says)
    one.set_defaults(do=do)
    return one


def write(text: str, out: Path | None, usual: str, *, screen: bool) -> None:
    """Into the file `out`, or where there is none onto the screen, or into the file `usual`, whose name is told."""
    if screen and out is None:
        print(text)
        return
    place = out or Path(usual)
    place.write_text(text)
    print(place)
