"""The log into the lake: a small dataflow, `python -m flows.lake`.

A flush writes a partition's files, then commits its position, then removes what the new files supersede. A kill
between the two leaves files past the position; the next start removes them, because their entries are still in
the log, which is trimmed behind the lake's position only.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import Any

import bytewax.operators as op
import pyarrow as pa
import redis
from bytewax.dataflow import Dataflow

from feature_repo import keys, vocabulary
from feature_repo import settings as configuration
from feature_repo.settings import Settings
from flows import gaps, lake_predictions, lake_served
from flows import lake_files as files
from flows.lake_books import Books
from flows.lake_dates import Dates
from flows.lake_drain import Drain
from flows.lake_files import EVENTS, FEATURES, Id, id_of, remove
from flows.lake_retention import Retention
from flows.lake_rows import Rows, kept
from flows.lake_served import MUCH
from flows.lake_shelf import LakeError, Part, Shelf
from flows.lake_store import claim, still
from flows.losses import opened
from flows.resp import Connection, Lost, Refused
from flows.running import REDIS_DOWN, Sink, Source, connected, patiently, pause, run, say
from flows.store import Store, StoreError, dial
from flows.streams import LogReader, Read

ASK_SECONDS = 1.0  # between two looks at how much waits in the streams of served features
WAIT_MS = 200  # how long a read waits: also how soon a SIGTERM is seen
MOST_BYTES = 10 << 20  # of columns that wait, some 50 bytes an event
MOST_ENTRIES = 50_000  # that wait
LAST_WORDS = 1.5  # seconds that the flush on SIGTERM may take; what is left waits in the log


class Lake:
    """Reads the log of all partitions, lets it gather, and flushes it."""

    def __init__(self, settings: Settings, client: redis.Redis, store: Store, clock: Callable[[], float]) -> None:
        self.settings, self.client, self.clock = settings, client, clock
        self.vocabulary = vocabulary.load(settings.feature_repo)
        self.books = Books(client)
        self.shelves = [Shelf(settings.lake, p, EVENTS) for p in range(store.partitions)]
        self.served = lake_served.drains(settings.lake, client, store.partitions, self.vocabulary.join_key)
        self.predictions = lake_predictions.drain(settings.lake, client)
        self.drains: list[Drain[Any]] = [*self.served, self.predictions]
        self._served_at = self._asked_at = clock()
        handed = [drain.shelf for drain in self.drains]
        self._retention = Retention(settings.lake, client, settings.lake_days, self.shelves, handed)
        kinds: dict[str, Sequence[Shelf]] = {EVENTS: self.shelves, FEATURES: [drain.shelf for drain in self.served]}
        self.dates = Dates(settings.lake, client, kinds, clock)
        self._waiting: dict[int, list[Read]] = {}
        self._bytes = self._entries = 0
        self._since = 0.0
        self._positions = self._committed()
        self._connection: Connection | None = None
        self._reader: LogReader | None = None
        self._gaps = gaps.Gaps()

    def recover(self) -> None:
        """Brings the files in line with the positions. Raises LakeError."""
        for p in [p for p, position in self._positions.items() if position == b"0-0"]:
            self.client.hsetnx(keys.lake_counts(p), "events", 0)
        for shelf in self.shelves:
            position = id_of(self._positions[shelf.partition])
            reached = shelf.recover(position, partial(self._logged, keys.log(shelf.partition)))
            if reached > position:
                self._positions[shelf.partition] = last = b"%d-%d" % reached
                self.client.set(keys.lake_position(shelf.partition), last)
                self.client.delete(keys.lake_counts(shelf.partition))  # how many events that adds is not known
        for drain in self.drains:
            drain.recover()
        self.dates.recover()
        self._retention.apply()

    def read(self) -> list[list[Read]]:
        """What has come since; a list even of nothing, so that the sink sees time pass."""
        try:
            if self._reader is None:
                self._connection = dial(self.settings)
                self._reader = LogReader(self._connection, self._positions)
            return [self._reader.read(WAIT_MS)]
        except (Lost, Refused) as error:
            self._positions = self._reader.positions if self._reader else self._positions
            self.close()
            pause(str(error))
            return []

    def take(self, batches: list[list[Read]]) -> None:
        """Keeps what came; flushes when it is time or enough."""
        for read in (read for batch in batches for read in batch):
            if read.error:
                say(f"entry {read.id.decode()} of partition {read.partition} is not in the lake: {read.error}")
            self._keep(read)
        with still(self.settings.lake):
            self._write(busy=any(batches))

    def _write(self, *, busy: bool) -> None:
        late = self._waiting and self.clock() - self._since >= self.settings.lake_seconds
        if late or self._bytes >= MOST_BYTES or self._entries >= MOST_ENTRIES:
            self.flush()
        if self._is_served_due():
            self.take_served()
        if not busy and not self._waiting and self._reader is not None and self._gaps.due():
            self._look_for_gaps(self._reader.positions)
        self.dates.work(busy=busy)

    def _look_for_gaps(self, reached: dict[int, bytes]) -> None:
        """Nothing is held back: what is then still missing never comes."""
        for p, position in reached.items():
            gone: Any = patiently(partial(self.client.execute_command, *gaps.unkept(p, position)), REDIS_DOWN)
            if gone is not None and gone > 0:
                say(f"{gone} accepted events of partition {p} are not in the lake: gone from the log before it came")

    def take_served(self, until: float = float("inf")) -> None:
        """Features as served and predictions, from streams to files; past `until` what is left stays there."""
        self._served_at = self.clock()
        for drain in self.drains:
            drain.take(lambda: self.clock() < until)

    def _is_served_due(self) -> bool:
        """It waits in Redis: until it is time, or much."""
        now = self.clock()
        if now - self._served_at >= self.settings.lake_seconds:
            return True
        if now - self._asked_at < ASK_SECONDS:
            return False
        self._asked_at = now
        return (patiently(lambda: sum(drain.waiting() for drain in self.drains), REDIS_DOWN) or 0) >= MUCH

    def flush(self, until: float = float("inf")) -> None:
        """Partition by partition; past the moment `until` (of the clock) what is left stays in the log."""
        for partition in list(self._waiting):
            if self.clock() >= until or not self._flush(partition, self._waiting.pop(partition)):
                break
        self._bytes = self._entries = 0
        self._retention.apply()

    def finish(self) -> None:
        until = self.clock() + LAST_WORDS
        self.dates.stop()
        with still(self.settings.lake):
            self.flush(until)
            self.take_served(until)
        self.close()

    def close(self) -> None:
        """Ends the connection that reads the log; the next read makes another."""
        if self._connection is not None:
            self._connection.close()
        self._connection = self._reader = None

    def _keep(self, read: Read) -> None:
        self._since = self._since if self._waiting else self.clock()
        self._waiting.setdefault(read.partition, []).append(read)
        self._bytes += len(read.fields.get(b"e", b""))
        self._entries += 1

    def _flush(self, partition: int, reads: list[Read]) -> bool:
        """Whether it was committed: not, when stopped while Redis was down."""
        events = [r for r in reads if r.entry is not None and kept(r.entry)]
        if patiently(lambda: self._look_up(events), REDIS_DOWN) is None:
            return False
        stale = self.shelves[partition].write(self.parts(partition, events))
        last = reads[-1].id
        commit = gaps.keep(partition, last, sum(map(gaps.accepted, reads)))
        committed = patiently(lambda: bool(self.client.execute_command(*commit)), REDIS_DOWN)
        if committed:
            remove(stale)
        return bool(committed)

    def parts(self, partition: int, events: list[Read]) -> Iterator[Part]:
        """The rows of entries, apart for each date."""
        for _, dated in groupby(events, lambda r: files.date_of(id_of(r.id))):
            these, rows = list(dated), Rows(partition, self.vocabulary)
            for read in these:
                if read.entry is not None:
                    rows.add(read.id, read.entry, read.fields, self.books.of(read.entry.fingerprint))
            yield Part(id_of(these[0].id), id_of(these[-1].id), rows.table())

    def _look_up(self, events: list[Read]) -> bool:
        """So that Redis is not asked half-way through a write."""
        for fingerprint in {r.entry.fingerprint for r in events if r.entry}:
            self.books.of(fingerprint)
        return True

    def _committed(self) -> dict[int, bytes]:
        found: Any = self.client.mget([keys.lake_position(s.partition) for s in self.shelves])
        return {s.partition: position or b"0-0" for s, position in zip(self.shelves, found, strict=True)}

    def _logged(self, log: str, entry: Id) -> bool:
        name = f"{entry[0]}-{entry[1]}"
        return bool(self.client.xrange(log, name, name))


def dataflow(lake: Lake) -> Dataflow:
    flow = Dataflow("lake")
    log = op.input("log", flow, Source(lake.read))  # [Read]
    op.output("files", log, Sink(lake.take, lake.finish))
    return flow


def main() -> int:
    settings = configuration.load()
    try:
        client = connected(settings)
        store = opened(client, settings)
        with claim(settings.lake, store):
            lake = Lake(settings, client, store, time.monotonic)
            lake.recover()
            run(dataflow(lake))
    except (StoreError, LakeError, OSError, pa.ArrowException) as error:
        say(f"the lake stops: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
