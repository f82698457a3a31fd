"""`flows.delivering`, life after life: each a fork of this process, so that it begins at once.

Reads lines `STEP<tab>N`: that life kills itself with SIGKILL when it comes to the step for the n-th time (no step: it
lives until somebody ends it). Answers each with its process id, then, when it has ended, with how.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

from flows import delivering, delivery_rows
from flows.delivery import Delivery
from flows.delivery_sender import Sender
from flows.outbox import Outbox
from flows.web import Web
from tests.faults.mortal import watch

STEPS = {  # step -> what is crossed: before or after a call
    "before taking over": (Outbox, "begin", "before"),
    "in a takeover": (Sender, "take", "after"),
    "taken over": (Outbox, "begin", "after"),
    "before a turn": (Outbox, "turn", "before"),
    "lease held": (Sender, "hold", "after"),
    "ends recorded": (Outbox, "_record", "after"),
    "alerts planned": (Outbox, "_route", "after"),
    "rows written": (delivery_rows, "add", "after"),
    "statuses moved": (Outbox, "_told", "after"),
    "parcels taken": (Outbox, "_take", "after"),
    "before the commit": (Sender, "move", "after"),
    "turn committed": (Outbox, "turn", "after"),
    "before an attempt": (Web, "send", "before"),
    "answered": (Web, "send", "after"),
    "attempt ended": (Delivery, "_attempt", "after"),
}


def _fatal(step: str, n: int) -> None:
    """Has the n-th crossing of the step end this process."""
    left = [n]

    def cross() -> None:
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)

    watch(*STEPS[step], cross)


def _live(step: str, n: int) -> NoReturn:
    if step:
        _fatal(step, n)
    os._exit(delivering.main())


if __name__ == "__main__":
    for line in sys.stdin:
        step, _, n = line.rstrip("\n").partition("\t")
        pid = os.fork()
        if not pid:
            _live(step, int(n))
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
