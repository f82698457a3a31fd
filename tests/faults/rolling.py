"""A site whose processes are replaced one by one, from one tree's code by another's, while its store runs on."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import msgspec

from feature_repo import keys
from flows.lifeline import leashed
from flows.store import connect, embedded
from serving.supervisor import CHILDREN, environment
from tests.faults.site import Site

MODULES = {child.name: child.command[2] for child in CHILDREN}
PATIENCE_S = 20.0
CREATE = (
    "from feature_repo.settings import load; from flows.store import connect, create; create(connect(load()), load())"
)


class Code(msgspec.Struct, frozen=True):
    """What a process is started as: the tree that it runs from, the domain that it knows (empty: what ships)."""

    tree: Path
    domain: str = ""


class Rolling(Site):
    """Begins with all processes of `code`; nobody starts again what ends."""

    def __init__(self, place: Path, seed: int, code: Code, **more: Any) -> None:
        self._server = embedded(place / "server")
        super().__init__(place, seed, redis_url=f"unix://{self._server.where.socket}", **more)
        self._code = code
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def begin(self) -> None:
        subprocess.run([sys.executable, "-c", CREATE], check=True, **self._as(self._code))
        for name in MODULES:
            self._start(name, self._code)

    def end(self) -> None:
        for name in list(self._running):
            with suppress(subprocess.TimeoutExpired):
                self._stop(name, signal.SIGTERM)
        self._server.stop()

    def replace(self, name: str, code: Code, how: int = signal.SIGTERM) -> None:
        """The process by one of other code, as soon as it has ended."""
        ended = self._stop(name, how)
        assert ended in {0, -how}, f"{name} ended with {ended}: {self._last_words(name)}"
        self._start(name, code)

    def overtake(self, name: str, code: Code) -> None:
        """The other one is there already when this one learns that it is not wanted any more, and ends by itself."""
        old = self._running[name]
        self._start(name, code)
        ended = old.wait(PATIENCE_S)
        assert ended == 1, f"{name} ended with {ended} when another took over: {self._last_words(name)}"

    def run(self, code: Code, module: str, *words: str) -> subprocess.CompletedProcess[str]:
        """A command of that code, over this store."""
        command = [sys.executable, "-m", module, *words]
        return subprocess.run(command, capture_output=True, text=True, check=False, **self._as(code))

    def layouts(self) -> int:
        """Under how many heads people were written: each code has its own."""
        with closing(connect(self.settings)) as client:
            return int(client.hlen(keys.LAYOUTS))

    def _as(self, code: Code) -> dict[str, Any]:
        settings = msgspec.structs.replace(self.settings, feature_repo=code.domain)
        return {"cwd": code.tree, "env": environment(settings)}

    def _start(self, name: str, code: Code) -> None:
        command = leashed([sys.executable, "-m", MODULES[name]])
        with self._log(name).open("ab") as log:
            self._running[name] = subprocess.Popen(command, stdout=log, stderr=log, **self._as(code))

    def _stop(self, name: str, how: int) -> int:
        process = self._running.pop(name)
        process.send_signal(how)
        try:
            return process.wait(PATIENCE_S)
        finally:
            process.kill()

    def _log(self, name: str) -> Path:
        return self._place / f"{name}.log"

    def _last_words(self, name: str) -> str:
        lines = self._log(name).read_text(errors="replace").splitlines()
        return lines[-1] if lines else ""
