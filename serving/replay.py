"""`telltale replay FILE`: recorded Segment calls through the public door, in the order of their own timestamps."""

from __future__ import annotations

import hashlib
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from feature_repo.moments import instant
from feature_repo.settings import Settings
from serving.client import Closed, Door, Turned
from serving.complaint import Complaint

BATCH_EVENTS = 2000  # the door takes 2,500 in 500 KB
BATCH_BYTES = 450_000
PATIENCE = 60.0  # seconds that the door may be away
TOGETHER = 0.1  # seconds for which a call may wait for the others of its batch
TICK = 0.5  # seconds between looks at the clock while nothing is due


class Dated(msgspec.Struct):
    """What we need to know of a line."""

    type: str
    timestamp: datetime | None = None
    originalTimestamp: datetime | None = None  # noqa: N815  # Segment's name


class Index(msgspec.Struct):
    """Where each call of the file stands, in time order. `at`: ms since 1970; `offset`, `size`: bytes."""

    at: np.ndarray[Any, Any]
    offset: np.ndarray[Any, Any]
    size: np.ndarray[Any, Any]


class Clock(msgspec.Struct, frozen=True):
    """Seconds since some moment, and how to let them pass."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


CLOCK = Clock()


class Pace:
    """When which call is due. `first`: ms since 1970; `speed`: seconds of the file a second, 0 = all at once."""

    def __init__(self, first: int, speed: float, clock: Clock) -> None:
        self._first, self._speed, self._clock = first, speed, clock
        self._begun = clock.now()

    def together(self, at: int) -> float:
        """Up to which time of the file calls go in one batch with a call of `at`: those due by now, or soon."""
        if not self._speed:
            return math.inf
        return max(at + TOGETHER * 1000 * self._speed, self._reached())

    def wait(self, at: int) -> Iterator[int]:
        """Ends when a call of `at` is due; until then tells now and then the time of the file that is reached."""
        while self._speed and (left := (at - self._reached()) / 1000 / self._speed) > 0:
            yield int(self._reached())
            self._clock.sleep(min(left, TICK))

    def _reached(self) -> float:
        return self._first + (self._clock.now() - self._begun) * 1000 * self._speed


_read_line = msgspec.json.Decoder(Dated).decode


def replay(settings: Settings, key: str, path: Path, speed: float, history: bool, clock: Clock = CLOCK) -> None:
    """Posts the file's calls. Raises Complaint, before anything is posted, when a line cannot be read.

    `speed`: seconds of the file a second, 0 = no waiting. Calls without a messageId get one made of the
    line, so that what is sent again while the door comes and goes counts once.
    """
    try:
        with path.open("rb") as file, closing(Door(settings, key, timeout=60.0)) as door:
            index = read_index(file)
            first = int(index.at[0]) if len(index.at) else 0
            _post_all(door, file, index, Pace(first, speed, clock), history)
    except OSError as error:
        raise Complaint(f"{path}: {error.strerror}") from None


def read_index(file: BinaryIO) -> Index:
    """Reads every line once. Raises Complaint that names the first that is no dated call."""
    at, offset, size = [], [], []
    begin = 0
    for number, line in enumerate(file, 1):
        if line.strip():
            at.append(_moment(line, number))
            offset.append(begin)
            size.append(len(line))
        begin += len(line)
    order = np.argsort(np.array(at, np.int64), kind="stable")
    return Index(np.array(at, np.int64)[order], np.array(offset, np.int64)[order], np.array(size, np.int64)[order])


def _moment(line: bytes, number: int) -> int:
    try:
        call = _read_line(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Complaint(f"line {number}: expected one JSON call with `type` and `timestamp`: {error}") from None
    when = call.timestamp or call.originalTimestamp
    if when is None:
        raise Complaint(f"line {number}: expected a `timestamp`, there is none")
    return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1000)


def prepared(line: bytes, offset: int) -> bytes:
    """The call as the door shall see it: its own timestamp stands, and it has a messageId."""
    call = msgspec.json.decode(line)
    call.setdefault("timestamp", call.get("originalTimestamp"))
    call.pop("sentAt", None)  # the door would move the timestamp by the distance to now
    call.setdefault("messageId", _message_id(line, offset))
    return msgspec.json.encode(call)


def _message_id(line: bytes, offset: int) -> str:
    return f"replay-{offset}-{hashlib.blake2b(line, digest_size=12).hexdigest()}"


def batches(file: BinaryIO, index: Index, pace: Pace) -> Iterator[tuple[int, list[bytes]]]:
    """(time of the last call, calls) of each batch, within the door's limits and what is due together."""
    calls: list[bytes] = []
    weight = last = 0
    until = -math.inf
    for at, offset, size in zip(index.at.tolist(), index.offset.tolist(), index.size.tolist(), strict=True):
        file.seek(offset)
        call = prepared(file.read(size), offset)
        if calls and (at > until or len(calls) == BATCH_EVENTS or weight + len(call) > BATCH_BYTES):
            yield last, calls
            calls, weight = [], 0
        if not calls:
            until = pace.together(at)
        calls.append(call)
        weight, last = weight + len(call), at
    if calls:
        yield last, calls


def _post_all(door: Door, file: BinaryIO, index: Index, pace: Pace, history: bool) -> None:
    headers = {"X-Telltale-History": "1"} if history else {}
    rejected = 0
    begun = time.monotonic()
    with _bar() as bar:
        task = bar.add_task("", total=len(index.at), clock="")
        for at, calls in batches(file, index, pace):
            for reached in pace.wait(at):
                bar.update(task, clock=_minute(reached))
            rejected += _post(door, calls, headers)
            bar.update(task, advance=len(calls), clock=_minute(at))
    passed = time.monotonic() - begun
    print(f"{len(index.at):,} calls in {passed:.1f} s, {rejected:,} rejected")


def _minute(at: int) -> str:
    return f"{instant(at):%Y-%m-%d %H:%M}"


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.fields[clock]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(file=sys.stderr),
    )


def _post(door: Door, calls: list[bytes], headers: dict[str, str]) -> int:
    """Posts until stored; how many of the calls were rejected."""
    body = b'{"batch":[' + b",".join(calls) + b"]}"
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return len(json.loads(door.post("/v1/batch", body, headers))["rejected"])
        except Closed:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        except Turned as error:
            if "rejected" in error.problem:  # every call of the batch was
                return len(error.problem["rejected"])
            if not error.retry_after or time.monotonic() > deadline:
                raise
            time.sleep(error.retry_after)
