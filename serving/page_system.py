"""`/system`: whether all works: the way of the events, the models, what waits to be delivered, what is learned."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from flows.progress import OUTCOMES
from serving.errors import ApiError
from serving.metrics_read import Meters, read_meters, values
from serving.page import form, go, page, shown
from serving.page_ask import ask, perhaps, tell, text

DEAD = 20  # dead deliveries shown
LEAST_S, MOST_S = 0.5, 30.0  # between two readings that give a rate


class Reading(msgspec.Struct, frozen=True):
    """What had been accepted at that moment (seconds of a monotonic clock), and what of it waited."""

    at: float
    meters: Meters


class Rates(msgspec.Struct, frozen=True):
    """Events a second: those that came, those that were worked."""

    accepted: float
    worked: float


async def system(request: Request) -> Response:
    problems, models, learning, dead, (metrics, rates) = await asyncio.gather(
        _problems(request),
        ask(request, "/v1/models"),
        perhaps(request, "/v1/learning"),
        ask(request, "/v1/deliveries", [("state", "DEAD"), ("limit", str(DEAD))]),
        _measured(request),
    )
    return page(
        request,
        "system.html",
        problems=problems,
        models=models["models"],
        learning=learning,
        dead=dead["deliveries"],
        queue={},
        rates=rates,
        counts={name: int(sum(values(metrics, f"telltale_events_{name}_total"))) for name in ("accepted", *OUTCOMES)},
        lag=int(sum(values(metrics, "telltale_events_lag"))),
        lag_seconds=max(values(metrics, "telltale_lag_seconds"), default=0.0),
        partitions=_partitions(metrics),
        engine=_engine(metrics),
        uptime=max(values(metrics, "telltale_api_uptime_seconds"), default=0.0),
    )


async def retry(request: Request) -> Response:
    """Sends dead deliveries again."""
    ids = [value for name, value in await form(request) if name == "ids"]
    await tell(request, "POST", "/v1/deliveries/retry", {"ids": ids})
    return go("/system")


async def _problems(request: Request) -> list[str]:
    try:
        await ask(request, "/readyz")
    except ApiError as error:
        return list(error.problems) or [error.detail]
    return []


async def _measured(request: Request) -> tuple[str, Rates]:
    """The metrics, and the rates since somebody last looked, or since half a second ago."""
    state = request.app.state
    before: Reading | None = getattr(state, "page_reading", None)
    if before is None or not LEAST_S <= time.monotonic() - before.at <= MOST_S:
        before, _ = await _reading(request)
        await asyncio.sleep(LEAST_S)
    now, metrics = await _reading(request)
    state.page_reading = now
    seconds = now.at - before.at
    return metrics, Rates(
        max(now.meters.accepted - before.meters.accepted, 0) / seconds,
        max(now.meters.worked - before.meters.worked, 0) / seconds,
    )


async def _reading(request: Request) -> tuple[Reading, str]:
    metrics = (await text(request, "/metrics")).decode()
    return Reading(time.monotonic(), read_meters(metrics)), metrics


def _partitions(metrics: str) -> list[dict[str, float]]:
    columns = {
        "accepted": values(metrics, "telltale_events_accepted_total"),
        "lag": values(metrics, "telltale_events_lag"),
        "seconds": values(metrics, "telltale_lag_seconds"),
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _engine(metrics: str) -> dict[str, Any]:
    """What the engine last said of itself: how long ago, people in memory, how long the oldest work waits."""
    names = ("alive_at", "users_cached", "cache_hits", "cache_misses", "oldest_unflushed_ms")
    told = {name: sum(values(metrics, f"telltale_engine_{name}")) for name in names}
    asked = told["cache_hits"] + told["cache_misses"]
    return {
        "silent": max(time.time() - told["alive_at"], 0.0) if told["alive_at"] else None,
        "people": int(told["users_cached"]),
        "hits": told["cache_hits"] / asked if asked else None,
        "waits_ms": told["oldest_unflushed_ms"],
    }


routes = [Route("/system", shown(system)), Route("/system/retry", shown(retry), methods=["POST"])]
