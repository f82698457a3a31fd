"""Waits until the engine has written what entries of the log hold."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

import msgspec

from feature_repo import keys
from flows.partition import EntryId, entry_id
from flows.resp import StoreError, pack
from serving.connection import Client

EVERY = 0.005  # seconds between two looks while somebody waits


class Waiting(msgspec.Struct):
    """By partition, the entry that has to be passed; and who waits for that."""

    entries: dict[int, EntryId]
    done: asyncio.Future[None]


class Applied:
    """All who wait share one look at the partitions' positions."""

    def __init__(self, client: Client, partitions: int) -> None:
        self._client = client
        self._look = pack("MGET", *map(keys.position, range(partitions)))
        self._waiting: list[Waiting] = []
        self._looking: asyncio.Task[None] | None = None

    async def passed(self, entries: Mapping[int, bytes], patience: float) -> bool:
        """Whether each partition's position reaches its entry within `patience` seconds."""
        if not entries:
            return True
        waiting = Waiting({p: entry_id(e) for p, e in entries.items()}, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._keep_looking())
        try:
            async with asyncio.timeout(patience):
                await waiting.done
        except TimeoutError:
            return False
        finally:
            self._waiting.remove(waiting)
        return True

    async def _keep_looking(self) -> None:
        while self._waiting:
            with contextlib.suppress(StoreError):  # who waits gives up in time
                (found,) = await self._client.call(self._look)
                at = [entry_id(position or b"0-0") for position in found]
                for waiting in self._waiting:
                    if not waiting.done.done() and all(at[p] >= e for p, e in waiting.entries.items()):
                        waiting.done.set_result(None)
            await asyncio.sleep(EVERY)
