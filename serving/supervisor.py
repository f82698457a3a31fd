"""Starts the processes that Telltale is made of, starts again what dies, and ends all in the right order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

import msgspec

from feature_repo.settings import Settings
from flows.embedded import Embedded
from flows.lifeline import leashed
from flows.resp import StoreError
from flows.stopping import Stop

QUICK = 5.0  # seconds: a life shorter than this counts as a quick death
MANY = 5  # quick deaths in a row that are worth a word
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
LARGE_LOG = 10_000_000  # bytes; at its start a larger log moves aside
POLL = 0.05


class Child(msgspec.Struct, frozen=True, kw_only=True):
    """A process of ours. `rank`: those of the lowest end first; `lines`: takes what it prints, else the log does."""

    name: str
    command: tuple[str, ...]
    rank: int
    wait: float = 0.0  # seconds at the start that it leaves the processors to others
    patience: float = 1.5  # seconds between SIGTERM and SIGKILL
    lines: Callable[[str], None] | None = None


def module(name: str, *args: str) -> tuple[str, ...]:
    """The command that runs a Python module of ours."""
    return (sys.executable, "-m", name, *args)


ENGINE = Child(name="engine", command=module("flows.alerting"), rank=2)
CHILDREN = (
    Child(name="api", command=module("serving.app"), rank=1),
    ENGINE,
    Child(name="lake", command=module("flows.lake"), rank=2, wait=4.0),
    Child(name="alerts", command=module("flows.alert_drain"), rank=2, wait=1.0),
    Child(name="delivery", command=module("flows.delivering"), rank=2, wait=1.5),
    Child(name="learning", command=module("flows.learning"), rank=2, wait=6.0),
)


def children(settings: Settings) -> tuple[Child, ...]:
    """All of them, and as many engines as are wanted: engine, engine-2, ..."""
    names = ["engine", *(f"engine-{n}" for n in range(2, settings.engines + 1))][: settings.engines]
    engines = [msgspec.structs.replace(ENGINE, name=name) for name in names]
    return tuple(one for child in CHILDREN for one in (engines if child is ENGINE else [child]))


def environment(settings: Settings) -> dict[str, str]:
    """What the children see: our environment, with every setting spelled out."""
    ours = {f"TELLTALE_{name.upper()}": str(value) for name, value in msgspec.structs.asdict(settings).items()}
    return {**os.environ, **ours, "PYTHONUNBUFFERED": "1"}


class Life:
    """One child, through all its deaths."""

    def __init__(self, child: Child, logs: Path, environ: dict[str, str], say: Callable[[str], None]) -> None:
        self.child = child
        self.process: subprocess.Popen[str] | None = None
        self.log = logs / f"{child.name}.log"
        self._environ = environ
        self._say = say
        self._begun = 0.0
        self._due = time.monotonic() + child.wait
        self._quick = 0
        self._over = False

    def tend(self, now: float) -> None:
        """Starts it when it is due; notices when it has died."""
        if self.process is None:
            if now >= self._due and not self._over:
                self._try_to_start(now)
        elif self.process.poll() is not None:
            self._bury(self.process.returncode, now)

    def ask_to_end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def await_end(self, deadline: float) -> None:
        """Waits until `deadline`, then kills."""
        if self.process is None:
            return
        try:
            self.process.wait(max(deadline - time.monotonic(), 0.0))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _try_to_start(self, now: float) -> None:
        try:
            self._start(now)
        except OSError as error:  # no memory, no process to be had, or the disk is full
            self._due = now + LONGEST_PAUSE
            self._say(f"{self.child.name} cannot be started ({error}), trying again in {LONGEST_PAUSE:.0f} s")

    def _start(self, now: float) -> None:
        self._begun = now
        with open_log(self.log) as log:
            self.process = subprocess.Popen(
                leashed(list(self.child.command)),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if self.child.lines else log,
                stderr=log,
                env=self._environ,
                text=True,
                start_new_session=True,  # Ctrl-C is for us: we end the children in order
            )
        if self.child.lines is not None and self.process.stdout is not None:
            threading.Thread(target=_forward, args=(self.process.stdout, self.child.lines), daemon=True).start()

    def _bury(self, code: int, now: float) -> None:
        self.process = None
        if code == 0 and self.child.lines is not None:  # it had something to tell, and told all of it
            self._over = True
            return
        self._quick = self._quick + 1 if now - self._begun < QUICK else 0
        pause = min(FIRST_PAUSE * 2**self._quick, LONGEST_PAUSE)
        self._due = now + pause
        self._say(f"{self.child.name} {_how(code)}, starting it again in {pause:.1f} s")
        if self._quick and self._quick % MANY == 0:
            self._say(
                f"{self.child.name} died {self._quick} times in a row within {QUICK:.0f} s of its start. "
                f"It says: {last_words(self.log)} (more in {self.log})"
            )


class Supervisor:
    """All children and, unless the store is somebody else's, its server.

    Children are started by the thread that calls `run`: on Linux they end with it.
    """

    def __init__(
        self, settings: Settings, server: Embedded | None, children: Sequence[Child], say: Callable[[str], None]
    ) -> None:
        logs = settings.home / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        environ = environment(settings)
        self.server = server
        self.lives = [Life(child, logs, environ, say) for child in children]
        self._say = say
        self._ending = Stop()

    def run(self) -> None:
        """Until `end` is called: start, watch, start again. Then stops all."""
        try:
            while not self._ending.is_set():
                self._tend()
                self._ending.wait(POLL)
        finally:
            self._stop()

    def end(self) -> None:
        """Makes `run` return. May be called from anywhere, also by a signal."""
        self._ending.set()

    def _tend(self) -> None:
        if self.server is not None and not self.server.running():
            self._revive(self.server)
        now = time.monotonic()
        for life in self.lives:
            life.tend(now)

    def _revive(self, server: Embedded) -> None:
        self._say("the store died, starting it again")
        try:
            server.restart(go_on=lambda: not self._ending.is_set())
        except StoreError as error:
            self._say(str(error))
            self._ending.wait(1.0)

    def _stop(self) -> None:
        for rank in sorted({life.child.rank for life in self.lives}):
            peers = [life for life in self.lives if life.child.rank == rank]
            for life in peers:
                life.ask_to_end()
            now = time.monotonic()
            for life in peers:
                life.await_end(now + life.child.patience)
        if self.server is not None:
            self.server.stop(patience=1.5)


def end_on_signals(supervisor: Supervisor) -> None:
    """Ctrl-C and SIGTERM end the supervisor in order; a second Ctrl-C changes nothing."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: supervisor.end())


def open_log(path: Path) -> IO[bytes]:
    if path.exists() and path.stat().st_size > LARGE_LOG:
        path.replace(path.with_suffix(".log.1"))
    return path.open("ab")


def last_words(path: Path) -> str:
    """The last line of a log."""
    lines = path.read_text(errors="replace").split("\n") if path.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "nothing")


def _forward(pipe: IO[str], take: Callable[[str], None]) -> None:
    with pipe:
        for line in pipe:
            take(line)


def _how(code: int) -> str:
    if code < 0:
        return f"was killed ({signal.Signals(-code).name})"
    return f"ended with exit code {code}"
