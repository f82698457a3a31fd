"""The supervisor: starts again what dies, ends in order, and takes its children with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from feature_repo.settings import Settings
from flows.embedded import embedded
from flows.store import connect
from serving.supervisor import Child, Supervisor, last_words

WAITS = "import time; print('here', flush=True); time.sleep(60)"
STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); print('here', flush=True); time.sleep(60)"
NOTES_ITS_END = """
import signal, sys, time
def end(*_):
    open(sys.argv[1], 'a').write(sys.argv[2])
    sys.exit()
signal.signal(15, end)
print('here', flush=True)
time.sleep(60)
"""


def child(name: str, script: str, *args: str, rank: int = 1, patience: float = 1.5) -> Child:
    return Child(name=name, command=(sys.executable, "-c", script, *args), rank=rank, patience=patience)


def until(true: Callable[[], bool], patience: float = 5.0) -> None:
    deadline = time.monotonic() + patience
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


@contextmanager
def running(supervisor: Supervisor) -> Iterator[None]:
    """On a thread of its own; ended at the end."""
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    try:
        yield
    finally:
        supervisor.end()
        thread.join()


def up(supervisor: Supervisor) -> bool:
    return all(life.process and "here" in life.log.read_text() for life in supervisor.lives)


def test_a_killed_child_is_started_again_and_said_so(tmp_path: Path) -> None:
    """kill -9 of a child: another one with another pid runs soon after."""
    said: list[str] = []
    supervisor = Supervisor(Settings(home=tmp_path), None, [child("one", WAITS)], said.append)
    life = supervisor.lives[0]
    with running(supervisor):
        until(lambda: up(supervisor))
        assert life.process
        first = life.process.pid
        os.kill(first, signal.SIGKILL)
        until(lambda: life.process is not None and life.process.pid != first)
    assert said == ["one was killed (SIGKILL), starting it again in 0.2 s"]


def test_children_end_by_rank(tmp_path: Path) -> None:
    """The door ends before the flows, so that nothing is taken in that nobody works on."""
    notes = str(tmp_path / "notes")
    children = [child(n, NOTES_ITS_END, notes, n, rank=rank) for n, rank in (("c", 3), ("a", 1), ("b", 2))]
    supervisor = Supervisor(Settings(home=tmp_path), None, children, print)
    with running(supervisor):
        until(lambda: up(supervisor))
    assert Path(notes).read_text() == "abc"


def test_a_stubborn_child_is_killed_in_time(tmp_path: Path) -> None:
    """One that ignores SIGTERM does not hold the end up."""
    supervisor = Supervisor(Settings(home=tmp_path), None, [child("one", STUBBORN, patience=0.2)], print)
    with running(supervisor):
        until(lambda: up(supervisor))
        begun = time.monotonic()
    assert time.monotonic() - begun < 1.0
    assert supervisor.lives[0].process
    assert supervisor.lives[0].process.returncode == -signal.SIGKILL


def test_quick_deaths_are_told_in_plain_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that cannot start is named with its last words, and tried again ever more slowly."""
    monkeypatch.setattr("serving.supervisor.FIRST_PAUSE", 0.001)
    said: list[str] = []
    failing = child("one", "import sys; sys.exit('no such model')")
    with running(Supervisor(Settings(home=tmp_path), None, [failing], said.append)):
        until(lambda: len(said) >= 6)
    assert said[5].startswith("one died 5 times in a row within 5 s of its start. It says: no such model")


def test_a_child_that_cannot_be_started_ends_nobody(tmp_path: Path) -> None:
    """A full disk or a missing program is said, and tried again later."""
    (tmp_path / "logs" / "one.log").mkdir(parents=True)
    said: list[str] = []
    with running(Supervisor(Settings(home=tmp_path), None, [child("one", WAITS)], said.append)):
        until(lambda: bool(said))
    assert said[0].startswith("one cannot be started (")


def test_a_killed_store_comes_back_with_its_data(tmp_path: Path) -> None:
    """kill -9 of Valkey: the supervisor starts it again at the same address."""
    settings = Settings(home=tmp_path)
    server = embedded(tmp_path)
    client = connect(settings)
    client.set("a", "1")
    first = server.where.pid
    with running(Supervisor(settings, server, [], print)):
        os.kill(first, signal.SIGKILL)
        until(lambda: server.where.pid != first)
        assert client.get("a") == b"1"
    client.close()


def test_what_a_child_prints_can_be_taken_and_its_good_end_is_its_last(tmp_path: Path) -> None:
    """Lines are handed on as they come; a teller that ends well is not started again."""
    lines: list[str] = []
    teller = Child(name="one", command=(sys.executable, "-c", "print('a'); print('b')"), rank=1, lines=lines.append)
    said: list[str] = []
    supervisor = Supervisor(Settings(home=tmp_path), None, [teller], said.append)
    with running(supervisor):
        until(lambda: supervisor.lives[0].process is None and bool(lines))
        time.sleep(0.2)
    assert lines == ["a\n", "b\n"]
    assert said == []


PARENT = """
import sys
from pathlib import Path
from feature_repo.settings import Settings
from serving.supervisor import Child, Supervisor
child = Child(name="one", command=(sys.executable, "-c", sys.argv[2]), rank=1)
Supervisor(Settings(home=Path(sys.argv[1])), None, [child], print).run()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of their parent's death")
def test_children_end_with_a_killed_supervisor(tmp_path: Path) -> None:
    """kill -9 of the supervisor leaves no process behind."""
    script = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path), script])
    log = tmp_path / "logs" / "one.log"
    until(lambda: log.exists() and log.read_text().endswith("\n"))
    pid = int(log.read_text())
    parent.kill()
    parent.wait()
    until(lambda: not alive(pid))
    assert not alive(pid)


def alive(pid: int) -> bool:
    """Not gone, and not a zombie whose new parent has not looked yet."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_the_last_words_are_the_last_line_that_says_something(tmp_path: Path) -> None:
    """Empty lines at a log's end are passed over; an absent log said nothing."""
    log = tmp_path / "log"
    assert last_words(log) == "nothing"
    log.write_text("first\nlast\n\n")
    assert last_words(log) == "last"
