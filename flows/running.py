"""Plain functions as a Bytewax flow's ends, and a run of it in this process until SIGTERM or SIGINT."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import FrameType
from typing import Any, TypeVar

import redis
from bytewax.dataflow import Dataflow
from bytewax.errors import BytewaxRuntimeError
from bytewax.inputs import DynamicSource, StatelessSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import run_main
from redis.backoff import NoBackoff
from redis.retry import Retry

from feature_repo.settings import Settings
from flows.stopping import Stop
from flows.store import connect

PAUSE = 0.5  # seconds between two tries while something is down
REDIS_DOWN = (redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError)
T = TypeVar("T")

stopping = Stop()


class Source(DynamicSource[Any], StatelessSourcePartition[Any]):
    """Whatever `read` gives, until `stopping` is set. It may wait, but not longer than a stop may take."""

    def __init__(self, read: Callable[[], Iterable[Any]]) -> None:
        self.next_items = read

    def build(self, *_: object) -> Source:
        return self

    def next_batch(self) -> Iterable[Any]:
        if stopping.is_set():
            raise StopIteration
        return self.next_items()


class Sink(DynamicSink[Any], StatelessSinkPartition[Any]):
    """Each batch to `write`; `finish` when the flow ends by itself or by a signal."""

    def __init__(self, write: Callable[[list[Any]], None], finish: Callable[[], None] = lambda: None) -> None:
        self.write, self.finish = write, finish

    def build(self, *_: object) -> Sink:
        return self

    def write_batch(self, items: list[Any]) -> None:
        self.write(items)

    def close(self) -> None:
        self.finish()


def run(flow: Dataflow) -> None:
    """One worker in the main thread. A signal lets the flow end as if its input had ended: sinks close.

    Raises what a step raised, which Bytewax wraps in errors of its own.
    """
    end_on_signals()
    try:
        run_main(flow)  # type: ignore[no-untyped-call]
    except BytewaxRuntimeError as error:
        raised = error
    else:
        return
    raise _cause(raised)


def end_on_signals() -> None:
    """SIGTERM and SIGINT set `stopping`."""
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)


def _cause(error: BaseException) -> BaseException:
    while isinstance(error, BytewaxRuntimeError) and error.__cause__:
        error = error.__cause__
    return error


def _stop(number: int, frame: FrameType | None) -> None:
    stopping.set()


def connected(settings: Settings) -> redis.Redis:
    """A client that fails at once: `patiently` is who tries again, and it sees a SIGTERM. Raises StoreError."""
    client = connect(settings)
    client.set_retry(Retry(NoBackoff(), 0))
    return client


def patiently(do: Callable[[], T], down: tuple[type[Exception], ...]) -> T | None:
    """Its result, however often it takes while what it needs is down; None when stopped before."""
    while True:
        try:
            return do()
        except down as error:
            if stopping.is_set():
                return None
            pause(str(error))


def pause(why: str) -> None:
    say(f"waiting: {why}")
    stopping.wait(PAUSE)


def say(line: str) -> None:
    """One line to the log of this process, which is its stderr."""
    with suppress(OSError):  # the disk may be full, which is no reason to end
        sys.stderr.write(line.strip().partition("\n")[0] + "\n")
        sys.stderr.flush()
