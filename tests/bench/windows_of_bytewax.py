"""The peer: Bytewax's own sliding windows over the same filled log, counting the event types of the last day.

`python -m tests.bench.windows_of_bytewax EVENTS` reads that many events of the store in TELLTALE_HOME and prints
events a second. It computes 12 counts (24 h, every hour), about a tenth of what the engine does, writes nothing
and keeps nothing.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import bytewax.operators as op
import bytewax.operators.windowing as win
from bytewax.dataflow import Dataflow
from bytewax.operators.windowing import EventClock, SlidingWindower
from bytewax.testing import TestingSink, TestingSource, run_main

from feature_repo import keys
from feature_repo.settings import load
from flows.entry import decode
from flows.store import connect, open_store

Event = tuple[datetime, int]
START = datetime(2026, 1, 1, tzinfo=UTC)


def events(limit: int) -> Iterator[tuple[str, Event]]:
    """(person, (time, event code)) of the log's first events, decoded as cheaply as the engine's."""
    client = connect(load())
    store, given = open_store(client), 0
    for p in range(store.partitions):
        for _, fields in client.xrange(keys.log(p), count=limit // store.partitions // 500 + 1):
            entry = decode(fields[b"e"])
            columns = zip(entry.uid.tolist(), entry.ts.tolist(), entry.code.tolist(), strict=True)
            for uid, ts, code in columns:
                yield str(uid), (datetime.fromtimestamp(ts / 1000, UTC), code)
                given += 1
                if given == limit:
                    return


def count(counts: dict[int, int], event: Event) -> dict[int, int]:
    counts[event[1]] = counts.get(event[1], 0) + 1
    return counts


def merge(a: dict[int, int], b: dict[int, int]) -> dict[int, int]:
    return {code: a.get(code, 0) + b.get(code, 0) for code in a | b}


def flow(items: list[tuple[str, Event]]) -> Dataflow:
    flow = Dataflow("peer")
    people = op.input("log", flow, TestingSource(items, batch_size=1000))
    clock: EventClock[Event] = EventClock(lambda event: event[0], wait_for_system_duration=timedelta(hours=1))
    windower = SlidingWindower(length=timedelta(hours=24), offset=timedelta(hours=1), align_to=START)
    counted = win.fold_window("count", people, clock, windower, dict, count, merge, ordered=False)
    out: list[object] = []
    op.output("null", op.filter("none", counted.down, lambda _: False), TestingSink(out))
    return flow


def main(limit: int) -> None:
    items = list(events(limit))
    began = time.perf_counter()
    run_main(flow(items))  # type: ignore[no-untyped-call]
    print(len(items) / (time.perf_counter() - began))


if __name__ == "__main__":
    main(int(sys.argv[1]))
