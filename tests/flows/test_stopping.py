"""Stopping by a signal, at whatever moment it comes."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

from flows.stopping import Stop

STORM = """
import signal
from flows.stopping import Stop

stop = Stop()
signal.signal(signal.SIGALRM, lambda *_: stop.set())
for i in range(3000):
    stop.clear()
    signal.setitimer(signal.ITIMER_REAL, 0.0001)
    while not stop.wait(0 if i % 2 else 1):
        pass
"""


def test_a_handler_may_say_it_while_the_same_thread_waits() -> None:
    """Thousands of signals at any point of a wait: none of them blocks (with `threading.Event` one soon does)."""
    assert subprocess.run([sys.executable, "-c", STORM], timeout=30, check=False).returncode == 0


def test_who_waits_is_woken_at_once() -> None:
    """A wait ends when the word is said, not when its time is over; later waits end at once."""
    stop, began = Stop(), time.monotonic()
    threading.Timer(0.05, stop.set).start()
    assert stop.wait(20)
    assert stop.wait(20)
    assert time.monotonic() - began < 5


def test_waits_no_longer_than_asked() -> None:
    """Without the word a wait ends in time and says so."""
    assert not Stop().wait(0.01)
