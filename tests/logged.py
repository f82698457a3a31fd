"""Reads back what the log holds, event by event."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from feature_repo import keys
from feature_repo.settings import Settings
from flows.entry import Entry, decode, unpack_raw
from flows.store import connect, open_store


class Event(msgspec.Struct):
    """One row of an entry. `mid` 0: a join, nobody's event. `raw`: the JSON kept."""

    partition: int
    entry: str
    name: str
    uid: int
    mid: int
    ts: int
    code: int
    value: int
    raw: bytes
    history: bool
    traits: dict[int, int]
    join: str | None

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.raw)

    @property
    def ms(self) -> int:
        """The log's time."""
        return int(self.entry.partition("-")[0])


class Log:
    """A store's log."""

    def __init__(self, settings: Settings) -> None:
        self.client = connect(settings)
        self.store = open_store(self.client)

    def events(self, user: str = "", organisation: str = "main") -> list[Event]:
        """All rows of people whose name begins so, a partition after the other, in the log's order."""
        found = [e for p in range(self.store.partitions) for e in self._partition(p)]
        return [e for e in found if e.name.startswith(f"{organisation}/{user}")]

    def accepted(self) -> int:
        """Events that the store counts as accepted."""
        return sum(
            int(cast(bytes, self.client.hget(keys.counts(p), "accepted") or 0)) for p in range(self.store.partitions)
        )

    def _partition(self, partition: int) -> list[Event]:
        entries = cast(list[tuple[bytes, dict[bytes, bytes]]], self.client.xrange(keys.log(partition)))
        return [e for entry, fields in entries for e in _rows(partition, entry.decode(), fields)]


def _rows(partition: int, entry: str, fields: dict[bytes, bytes]) -> list[Event]:
    columns, raw = decode(fields[b"e"]), unpack_raw(fields[b"r"])
    joins = {int(i): columns.join(k).decode() for k, i in enumerate(columns.join_at)}
    return [
        Event(
            partition=partition,
            entry=entry,
            name=columns.name(i).decode(),
            uid=int(columns.uid[i]),
            mid=int(columns.mid[i]),
            ts=int(columns.ts[i]),
            code=int(columns.code[i]),
            value=int(columns.value[i]),
            raw=raw[i],
            history=columns.history,
            traits=_traits(columns, i),
            join=joins.get(i),
        )
        for i in range(len(columns))
    ]


def _traits(columns: Entry, i: int) -> dict[int, int]:
    at = [k for k, event in enumerate(columns.trait_at) if event == i]
    return {int(columns.trait[k]): int(columns.trait_bits[k]) for k in at}
