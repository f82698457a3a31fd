"""Reading the log, whatever becomes of the store meanwhile."""

from __future__ import annotations

from contextlib import closing

import pytest

from feature_repo.settings import Settings
from flows.resp import Connection, Lost
from flows.store import Store, address
from flows.streams import LogReader
from tests.flows.made_logs import START, Log, track


class Dying(Connection):
    """A connection that breaks once it was used so often."""

    left = 1

    def send(self, data: bytes | bytearray | memoryview) -> None:
        if not self.left:
            raise Lost("the store died")
        self.left -= 1
        super().send(data)


def test_what_was_answered_is_not_lost_with_the_next_question(log: Log, store: Store, settings: Settings) -> None:
    """A store that dies in between: whoever goes on from `positions` has had everything before."""
    for i in range(200):
        log.append(START + i, track(f"u{i}", f"m{i}"))
    with closing(Dying(address(settings))) as connection:
        reader = LogReader(connection, dict.fromkeys(range(store.partitions), b"0-0"))
        reads = reader.read(0)
        assert not reader.caught_up
        assert {read.partition: read.id for read in reads} == reader.positions
        with pytest.raises(Lost):
            reader.read(0)
        assert {read.partition: read.id for read in reads} == reader.positions
