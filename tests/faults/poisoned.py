"""The engine as it runs, but that one person's events end it: `python -m tests.faults.poisoned raise|crash`."""

from __future__ import annotations

import os
import signal
import sys

from flows import alerting, poison
from flows.counting import Counting
from flows.streams import Read

VICTIM = b"org/poison"


def _end(reads: list[Read]) -> None:
    if any(r.entry.name(i) == VICTIM for r in reads if r.entry for i in range(len(r.entry))):
        if sys.argv[1] == "raise":
            raise ZeroDivisionError("a formula that nobody thought of")
        os.kill(os.getpid(), signal.SIGSEGV)


if __name__ == "__main__":
    poison.LIVES = poison.TRIES = 2  # a start takes a second
    count = Counting._count_events

    def counted(self: Counting, reads: list[Read]) -> None:
        _end(reads)
        count(self, reads)

    Counting._count_events = counted  # type: ignore[method-assign]
    sys.exit(alerting.main())
