"""A site that runs `telltale up` itself, of this tree or of another one, without trouble on order."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

from serving.supervisor import environment
from tests.faults.site import Site
from tests.live import ROOT
from tests.running_up import Up


class Plain(Site):
    """`tree`: where the code of what begins next lies."""

    def __init__(self, place: Path, seed: int, tree: Path = ROOT, **more: Any) -> None:
        self.tree = tree
        super().__init__(place, seed, **more)

    def begin(self) -> None:
        out = (self._place / "out").open("ab")
        self.up = Up(self.settings, self.of_the_tree("serving.command", "up", out=out), out)

    def of_the_tree(self, module: str, *words: str, out: Any = None) -> subprocess.Popen[bytes]:
        """A process that runs a module of the tree, with our settings."""
        command = [sys.executable, "-m", module, *words]
        return subprocess.Popen(command, cwd=self.tree, env=self.environ(), stdout=out, stderr=out)

    def environ(self) -> dict[str, str]:
        return environment(self.settings)


def seed_of(dice: random.Random) -> int:
    """For a site of its own."""
    return dice.getrandbits(32)
