"""The online challengers' way into the registry: a version a day of what they learned, where the shadow is free."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import sqlalchemy as sa
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool

from feature_repo.declare import Service
from flows.learning_tables import learners
from onnx_models.card import ONLINE, Metadata
from onnx_models.library import Library
from onnx_models.registry import ModelError
from serving.alert_feed import Shelf
from serving.errors import ApiError
from serving.trainings import Busy, Trainings, TrainRequest

FIRST_S, EVERY_S = 120.0, 3600.0  # until the first look, between two
AGAIN = timedelta(days=1)  # between two versions of a model
MORE, LEAST = 1.25, 500  # times as many outcomes as the last version had; before there is one
WHO = "online challenger"
LEARNED = "outcomes"  # in what a version was trained on
log = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def keeping(
    shelf: Shelf, library: Library, services: Iterable[Service], trainings: Trainings
) -> AsyncIterator[None]:
    """Looks from time to time while the API runs. Only models that alert have a challenger in the registry."""
    names = [service.name for service in services if service.alert]

    async def look() -> None:
        outcomes = await shelf.read(learned)
        for name in await run_in_threadpool(due, library, names, outcomes, datetime.now(UTC)):
            asked = TrainRequest(online=True)
            job = await run_in_threadpool(trainings.prepare, name, asked)
            with contextlib.suppress(Busy):
                trainings.start(name, job, asked, WHO)

    task = asyncio.create_task(_again_and_again(look))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _again_and_again(look: Callable[[], Any]) -> None:
    await asyncio.sleep(FIRST_S)
    while True:
        try:
            await look()
        except (ApiError, ModelError, OSError) as error:  # SQL is down, the registry cannot be read: next time
            log.warning("online challengers: %s", error)
        await asyncio.sleep(EVERY_S)


def learned(connection: sa.Connection) -> dict[str, int]:
    """Outcomes that each model's linear challenger has learned."""
    query = sa.select(learners.c.model, learners.c.report).where(learners.c.kind == "challenger_linear")
    return {model: msgspec.json.decode(report)["outcomes"] for model, report in connection.execute(query)}


def due(library: Library, names: Iterable[str], outcomes: Mapping[str, int], now: datetime) -> list[str]:
    """Of which a version should be made now: enough is new, the last is a day old, nobody's waits in the shadow."""
    return [name for name in names if _due(library, name, outcomes.get(name, 0), now)]


def _due(library: Library, name: str, outcomes: int, now: datetime) -> bool:
    shadow = library.book(name).shadow
    waits = library.told(name, shadow) if shadow else None
    if outcomes < LEAST or (waits and waits.estimator != ONLINE):
        return False
    last = _last(library, name)
    if last is None:
        return True
    made = datetime.strptime(last.version, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    return now - made >= AGAIN and outcomes >= MORE * float(last.trained_on.get(LEARNED, 0))


def _last(library: Library, name: str) -> Metadata | None:
    """The newest version that was learned online."""
    found = (library.told(name, version) for version in reversed(library.versions(name)))
    return next((one for one in found if one and one.estimator == ONLINE), None)


def beside(app: Starlette, services: Iterable[Service]) -> contextlib.AbstractAsyncContextManager[None]:
    """Of this app."""
    return keeping(app.state.alerts.shelf, app.state.watch.library, services, app.state.trainings)
