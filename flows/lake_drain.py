"""From a stream into the lake's files: what waits is written, then the position, and with it the stream is trimmed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import groupby
from typing import Any, Generic, TypeAlias, TypeVar

import msgspec
import pyarrow as pa
import redis

from flows import lake_files as files
from flows.lake_files import Id, id_of, remove
from flows.lake_shelf import Part, Shelf
from flows.running import REDIS_DOWN, patiently, say
from flows.served import held

PIECE = 256  # entries read at once
R = TypeVar("R")
Read: TypeAlias = tuple[bytes, R | None]  # an entry's id, and its rows unless they cannot be read


class Stream(msgspec.Struct, Generic[R], frozen=True, kw_only=True):
    """A stream on its way to the lake. `decode` raises ValueError. `drops`: its oldest go while no lake comes."""

    what: str
    name: str
    position: str  # key: id of the last entry that the lake contains
    decode: Callable[[dict[bytes, bytes]], R]
    drops: bool = False

    def reached(self, client: redis.Redis) -> bytes:
        found: Any = client.get(self.position)
        return found or b"0-0"

    def beyond(self, client: redis.Redis, most: int | None = None) -> list[Read[R]]:
        """What the lake does not contain yet; at most so many entries."""
        found: Any = client.xrange(self.name, b"(" + self.reached(client), count=most)
        return [(id_, self._readable(id_, fields)) for id_, fields in found]

    def oldest(self, client: redis.Redis) -> Id | None:
        found: Any = client.xrange(self.name, count=1)
        return id_of(found[0][0]) if found else None

    def holds(self, client: redis.Redis, entry: Id) -> bool:
        name = f"{entry[0]}-{entry[1]}"
        return bool(client.xrange(self.name, name, name))

    def commit(self, client: redis.Redis, last: Id) -> bool:
        """The position, and with it what the files now hold leaves the stream."""
        ms, number = last
        with client.pipeline(transaction=True) as pipe:
            pipe.set(self.position, f"{ms}-{number}")
            pipe.xtrim(self.name, minid=f"{ms}-{number + 1}", approximate=False)
            pipe.execute()
        return True

    def _readable(self, id_: bytes, fields: dict[bytes, bytes]) -> R | None:
        try:
            return self.decode(fields)
        except ValueError as error:
            say(f"{self.what} {id_.decode()} are not in the lake: {error}")
            return None


class Drain(Generic[R]):
    """Takes what waits in a stream into a shelf's files. `learn`: asks Redis for all that `table` needs to know."""

    def __init__(
        self,
        client: redis.Redis,
        stream: Stream[R],
        shelf: Shelf,
        table: Callable[[list[Read[R]]], pa.Table],
        learn: Callable[[list[Read[R]]], bool] = lambda reads: True,
    ) -> None:
        self._client, self._stream, self.shelf = client, stream, shelf
        self._table, self._learn = table, learn

    def recover(self) -> None:
        """Brings the files in line with the position. Raises LakeError."""
        position = id_of(self._stream.reached(self._client))
        if self._stream.drops and self._was_dropped(position):
            position = self.shelf.last()
            self._stream.commit(self._client, position)
        reached = self.shelf.recover(position, partial(self._stream.holds, self._client))
        if reached > position:
            self._stream.commit(self._client, reached)

    def waiting(self) -> int:
        """Bytes in Redis, about."""
        return held(self._client, self._stream.name)

    def take(self, go_on: Callable[[], bool] = lambda: True) -> None:
        """All that waits, piece by piece; what is left when `go_on` says no stays in Redis."""
        while go_on() and (reads := patiently(self.read, REDIS_DOWN)):
            if not self._write(reads):
                return

    def read(self) -> list[Read[R]]:
        return self._stream.beyond(self._client, PIECE)

    def parts(self, reads: list[Read[R]]) -> Iterator[Part]:
        """The rows of entries, apart for each date."""
        for _, dated in groupby(reads, lambda read: files.date_of(id_of(read[0]))):
            these = list(dated)
            yield Part(id_of(these[0][0]), id_of(these[-1][0]), self._table(these))

    def _was_dropped(self, position: Id) -> bool:
        """What was dropped from the stream meanwhile cannot be written again: a file that holds it stands."""
        first, last = self._stream.oldest(self._client), self.shelf.last()
        return last > position and (first is None or last < first)

    def _write(self, reads: list[Read[R]]) -> bool:
        """Whether it was committed: not, when stopped while Redis was down."""
        # Redis is not asked half-way through a write.
        if patiently(lambda: self._learn(reads), REDIS_DOWN) is None:
            return False
        stale = self.shelf.write(self.parts(reads))
        if patiently(lambda: self._stream.commit(self._client, id_of(reads[-1][0])), REDIS_DOWN) is None:
            return False
        remove(stale)
        return True
