"""The log into the lake: a small dataflow, `python -m flows.lake`.

A flush writes a partition's files, then commits its position, then removes what the new files supersede. A kill
between the two leaves files past the position; the next start removes them, because their entries are still in
the log, which is trimmed behind the lake's position only.
"""

from __future__ import annotations

import fcntl
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import IO, Any

import bytewax.operators as op
import pyarrow as pa
import redis
from bytewax.dataflow import Dataflow

from feature_repo import keys, vocabulary
from feature_repo import settings as configuration
from feature_repo.settings import Settings
from feature_repo.vocabulary import Vocabulary
from flows import lake_files as files
from flows.lake_books import Books
from flows.lake_files import File, Id, id_of
from flows.lake_rows import Rows, kept
from flows.resp import Connection, Lost, Refused
from flows.running import REDIS_DOWN, Sink, Source, connected, patiently, pause, run, say
from flows.store import Store, StoreError, dial, open_store
from flows.streams import LogReader, Read

WAIT_MS = 200  # how long a read waits: also how soon a SIGTERM is seen
MOST_BYTES = 10 << 20  # of columns that wait, some 50 bytes an event
MOST_ENTRIES = 50_000  # that wait
LAST_WORDS = 1.5  # seconds that the flush on SIGTERM may take; what is left waits in the log


class LakeError(Exception):
    """The lake cannot be written; the message says why and what to do."""


class Shelf:
    """One partition's files. Those of the open date are merged as they grow, so that their number stays small."""

    def __init__(self, lake: Path, partition: int) -> None:
        self.lake, self.partition = lake, partition
        self._open: list[tuple[File, int]] = []  # of the latest date, with their rows

    def recover(self, position: Id, logged: Callable[[Id], bool]) -> None:
        """Removes what was written and not committed, or superseded and not removed; merges each date that is over.

        `logged`: whether an entry is in the log. Raises LakeError rather than remove what is not.
        """
        found = files.everything(self.lake, self.partition)
        for file in found:
            if file.last > position and not logged(file.last):
                raise LakeError(
                    f"{file.path} holds entries that are neither committed nor in the log: Redis went back in time. "
                    "Move the lake away, or set another TELLTALE_HOME"
                )
        committed = [f for f in found if f.last <= position]
        standing = files.current(committed)
        _remove(f for f in found if f not in standing)
        for _, dated in groupby(standing, lambda f: f.date):
            self._close_date()
            self._open = [(f, files.rows(f)) for f in dated]

    def write(self, reads: list[Read], books: Books, known: Vocabulary) -> list[File]:
        """Writes the reads' events; returns the files that these supersede, to be removed once the position stands."""
        stale: list[File] = []
        for date, dated in groupby(reads, lambda r: files.date_of(id_of(r.id))):
            if self._open and self._open[-1][0].date != date:
                stale += self._merge([f for f, count in self._open if count < files.FULL])
                self._open = []
            stale += self._add(list(dated), books, known)
        return stale

    def _add(self, reads: list[Read], books: Books, known: Vocabulary) -> list[File]:
        rows = Rows(self.partition, known)
        for read in reads:
            if read.entry is not None:
                rows.add(read.id, read.entry, read.fields.get(b"r", b""), books.of(read.entry.fingerprint))
        older, count = self._small(len(rows))
        first = older[0].first if older else id_of(reads[0].id)
        file = files.write(self.lake, older, rows.table(), (self.partition, first, id_of(reads[-1].id)))
        self._open.append((file, count))
        return [f for f in older if f.path != file.path]

    def _small(self, count: int) -> tuple[list[File], int]:
        """The newest open files that are not much larger than what comes, taken off; and the rows of all."""
        taken: list[File] = []
        while self._open and self._open[-1][1] <= 2 * count and count < files.FULL:
            file, more = self._open.pop()
            taken.insert(0, file)
            count += more
        return taken, count

    def _close_date(self) -> None:
        _remove(self._merge([f for f, count in self._open if count < files.FULL]))

    def _merge(self, dated: list[File]) -> list[File]:
        neighbours = len(dated) > 1 and dated == [f for f, _ in self._open][-len(dated) :]
        if not neighbours:
            return []
        files.write(self.lake, dated, None, (self.partition, dated[0].first, dated[-1].last))
        return dated


class Lake:
    """Reads the log of all partitions, lets it gather, and flushes it."""

    def __init__(self, settings: Settings, client: redis.Redis, store: Store, clock: Callable[[], float]) -> None:
        self.settings, self.client, self.clock = settings, client, clock
        self.vocabulary = vocabulary.load(settings.feature_repo)
        self.books = Books(client)
        self.shelves = [Shelf(settings.lake, p) for p in range(store.partitions)]
        self._waiting: dict[int, list[Read]] = {}
        self._bytes = self._entries = 0
        self._since = 0.0
        self._positions = self._committed()
        self._connection: Connection | None = None
        self._reader: LogReader | None = None

    def recover(self) -> None:
        """Brings the files in line with the positions. Raises LakeError."""
        for shelf in self.shelves:
            shelf.recover(id_of(self._positions[shelf.partition]), partial(self._logged, keys.log(shelf.partition)))

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
        late = self._waiting and self.clock() - self._since >= self.settings.lake_seconds
        if late or self._bytes >= MOST_BYTES or self._entries >= MOST_ENTRIES:
            self.flush()

    def flush(self, until: float = float("inf")) -> None:
        """Partition by partition; past the moment `until` (of the clock) what is left stays in the log."""
        for partition in list(self._waiting):
            if self.clock() >= until or not self._flush(partition, self._waiting.pop(partition)):
                break
        self._bytes = self._entries = 0

    def finish(self) -> None:
        self.flush(self.clock() + LAST_WORDS)
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
        stale = self.shelves[partition].write(events, self.books, self.vocabulary)
        last = reads[-1].id
        committed = patiently(lambda: bool(self.client.set(keys.lake_position(partition), last)), REDIS_DOWN)
        if committed:
            _remove(stale)
        return bool(committed)

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


def claim(lake: Path, store: Store) -> IO[str]:
    """The lock on the lake, while the file stays open. Raises LakeError when it is not ours to write."""
    lake.mkdir(parents=True, exist_ok=True)
    lock = (lake / "store").open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise LakeError(f"another process writes the lake {lake}") from None
    lock.seek(0)
    owner = lock.read()
    if owner and owner != str(store.seed):
        lock.close()
        raise LakeError(f"{lake} holds another store's events: move it away, or set another TELLTALE_HOME")
    if not owner:
        lock.write(str(store.seed))
        lock.flush()
    return lock


def _remove(stale: Iterable[File]) -> None:
    for file in stale:
        file.path.unlink(missing_ok=True)


def main() -> int:
    settings = configuration.load()
    try:
        client = connected(settings)
        store = open_store(client)
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
