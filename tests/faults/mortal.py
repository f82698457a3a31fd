"""A process of ours that dies at an exact point when it is armed: `python -m tests.faults.mortal flows.alerting`.

It runs as it is, but that it looks at the shared page (trouble.py) when it comes to one of `POINTS`, and that events of
`RAISES` and `CRASHES` end an engine.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults.trouble import ARMED, ENVIRON, NTH, Page

PROGRAMS = {
    "api": "serving.app",
    "engine": "flows.alerting",
    "drain": "flows.alert_drain",
    "lake": "flows.lake",
    "delivery": "flows.delivering",
}
Place = tuple[str, str, str, str]  # module, class, method, before or after the call
POINTS: dict[str, Place] = {
    "api: before the append": ("serving.append", "Appender", "_entries", "before"),
    "api: between append and answer": ("serving.append", "Appender", "_note", "before"),
    "engine: large flush written down": ("flows.partition", "Partition", "_written_down", "after"),
    "engine: between state and position": ("flows.partition", "Partition", "_state_written", "after"),
    "engine: before alerts and position": ("flows.partition", "Partition", "_rest_sent", "before"),
    "engine: position written, not known": ("flows.partition", "Partition", "_rest_written", "before"),
    "drain: alert in SQL, still in the stream": ("flows.alert_store", "AlertStore", "insert", "after"),
    "lake: file written, before its position": ("flows.lake_shelf", "Shelf", "write", "after"),
    "delivery: alerts planned": ("flows.outbox", "Outbox", "_route", "after"),
    "delivery: before the commit": ("flows.delivery_sender", "Sender", "move", "after"),
    "delivery: answered, not recorded": ("flows.web", "Web", "send", "after"),
}
RAISES, CRASHES = "poison-raises", "poison-crashes"  # and what they begin: people whose events end an engine
TRIES = 2  # of an engine with such an event: a start takes a second
FEW = 2  # people of a transaction, so that ordinary flushes are large ones


def number(point: str) -> int:
    """By which a point is armed."""
    return list(POINTS).index(point) + 1


def is_poison(user: str) -> bool:
    return user.startswith((RAISES, CRASHES))


def main(name: str) -> int:
    module = importlib.import_module(name)
    page = Page(Path(os.environ[ENVIRON]))
    if name == "flows.alerting":
        _name_steps_of_a_flush()
        _be_poisonable()
    for at, (point, (where, owner, what, when)) in enumerate(POINTS.items(), 1):
        if PROGRAMS[point.partition(":")[0]] == name:
            _watch(page, at, getattr(importlib.import_module(where), owner), what, when)
    return int(module.main())


def _watch(page: Page, point: int, owner: Any, name: str, when: str) -> None:
    def cross() -> None:
        if page[ARMED] == point:
            page[NTH] -= 1
            if page[NTH] <= 0:
                page[ARMED] = 0
                os.kill(os.getpid(), signal.SIGKILL)

    watch(owner, name, when, cross)


def watch(owner: Any, name: str, when: str, cross: Callable[[], None]) -> None:
    """Has `cross` called before or after each call of that method or coroutine."""
    real = getattr(owner, name)

    def at(moment: str) -> None:
        if moment == when:
            cross()

    def call(*args: Any, **named: Any) -> Any:
        at("before")
        found = real(*args, **named)
        at("after")
        return found

    async def acall(*args: Any, **named: Any) -> Any:
        at("before")
        found = await real(*args, **named)
        at("after")
        return found

    setattr(owner, name, acall if asyncio.iscoroutinefunction(real) else call)


def _name_steps_of_a_flush() -> None:
    """Of the transactions of a flush, which is which, as calls that can be watched."""
    from flows import transaction
    from flows.partition import Partition

    transaction.TOGETHER = FEW
    send = Partition.send
    steps: dict[str, Callable[..., None]] = {
        name: lambda self: None for name in ("_written_down", "_state_written", "_rest_sent", "_rest_written")
    }
    for name, step in steps.items():
        setattr(Partition, name, step)

    def watched(self: Any, commands: bytes, count: int) -> Callable[[], list[Any]]:
        kind = _kind(commands)
        if kind == "rest":
            self._rest_sent()
        finish = send(self, commands, count)

        def finished() -> list[Any]:
            replies = finish()
            {"redo": self._written_down, "people": self._state_written, "rest": self._rest_written}[kind]()
            return replies

        return finished

    Partition.send = watched  # type: ignore[method-assign]


def _be_poisonable() -> None:
    from flows import poison
    from flows.counting import Counting

    poison.LIVES = poison.TRIES = TRIES
    count = Counting._count_events

    def counted(self: Any, reads: list[Any]) -> None:
        users = [read.entry.name(i).decode() for read in reads if read.entry for i in range(len(read.entry))]
        if any(CRASHES in user for user in users):
            os.kill(os.getpid(), signal.SIGSEGV)
        if any(RAISES in user for user in users):
            raise ZeroDivisionError("a formula that nobody thought of")
        count(self, reads)

    Counting._count_events = counted  # type: ignore[method-assign]


def _kind(commands: bytes) -> str:
    if b":position\r\n" in commands:
        return "rest"
    return "redo" if b":redo\r\n" in commands[:64] else "people"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
