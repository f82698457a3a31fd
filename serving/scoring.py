"""What the scoring doors of one process share: the models that are deployed, their scorers, the log of predictions."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec

from flows.prediction_id import PredictionIds
from onnx_models.library import Library
from onnx_models.watch import Watch
from serving.api import Api
from serving.boosters import Boosters
from serving.connection import Client
from serving.log_clock import LogClock
from serving.prediction_log import PredictionLog
from serving.score import Parts, Scorer


class Scoring(msgspec.Struct, frozen=True):
    """Made once a process. `scorers`: by name of the service."""

    watch: Watch
    parts: Parts
    scorers: dict[str, Scorer]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Takes new versions and writes predictions down, until the end, when what waits is written."""
        self.watch.start()
        writing = asyncio.create_task(self.parts.log.run())
        try:
            yield
        finally:
            self.parts.log.stop()
            await writing
            self.parts.log.close()
            await asyncio.to_thread(self.watch.stop)

    async def now_ms(self) -> int:
        """What time it is, where nobody was looked up. Raises StoreError."""
        if question := self.parts.clock.question():
            self.parts.clock.hear((await self.parts.pipeline.call(question, 1))[0])
        return self.parts.clock.now_us() // 1000


def made(parts: Api) -> Scoring:
    """Loads what is deployed."""
    watch = Watch(Library.of(parts.settings), parts.vocabulary.services)
    shared = Parts(
        vocabulary=parts.vocabulary,
        pipeline=parts.reader.pipeline,
        clock=LogClock(parts.store),
        held=watch,
        ids=PredictionIds(parts.store.seed),
        log=PredictionLog(Client(parts.settings)),  # its own: nobody waits behind what it sends
        explain=Boosters(),
    )
    return Scoring(watch, shared, {service.name: Scorer(service, shared) for service in parts.vocabulary.services})
