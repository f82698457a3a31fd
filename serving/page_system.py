"""`/system`: whether all works: the way of the events, the models, what waits to be delivered, what is learned."""

from __future__ import annotations

import asyncio
import time

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from flows.progress import OUTCOMES
from serving.errors import ApiError
from serving.metrics_read import Meters, by_engine, read_meters, values
from serving.page import form, go, page, shown
from serving.page_ask import ask, tell, text
from serving.page_words import percent, plural, seconds

ENGINE_SILENT_S = 5.0  # as for /readyz
SILENT_S = 30.0
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


class Process(msgspec.Struct, frozen=True):
    """`well`: whether `state` is as it should be; `says`: in words, what it says of itself."""

    name: str
    state: str
    well: bool
    says: str


async def system(request: Request) -> Response:
    problems, models, learning, dead, queue, (metrics, rates) = await asyncio.gather(
        _problems(request),
        ask(request, "/v1/models"),
        ask(request, "/v1/learning"),
        ask(request, "/v1/deliveries", [("state", "DEAD"), ("limit", str(DEAD))]),
        ask(request, "/v1/alerts/stats"),
        _measured(request),
    )
    return page(
        request,
        "system.html",
        problems=problems,
        models=models["models"],
        learning=learning,
        dead=dead["deliveries"],
        queue=queue["queue"],
        rates=rates,
        counts={name: int(sum(values(metrics, f"telltale_events_{name}_total"))) for name in ("accepted", *OUTCOMES)},
        lag=int(sum(values(metrics, "telltale_events_lag"))),
        lag_seconds=max(values(metrics, "telltale_lag_seconds"), default=0.0),
        partitions=_partitions(metrics),
        processes=_processes(metrics),
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
    span = now.at - before.at
    return metrics, Rates(
        max(now.meters.accepted - before.meters.accepted, 0) / span,
        max(now.meters.worked - before.meters.worked, 0) / span,
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


def _processes(metrics: str) -> list[Process]:
    """Those that say of themselves that they live; this one does by answering."""
    up = max(values(metrics, "telltale_api_uptime_seconds"), default=0.0)
    return [
        Process("API", "answers", True, f"up for {seconds(up)}"),
        *_engines(metrics),
        _process(
            "Delivery", max(values(metrics, "telltale_delivery_alive_at"), default=0), SILENT_S, _delivery(metrics)
        ),
        _process("Learner", max(values(metrics, "telltale_learning_alive_at"), default=0), SILENT_S, ""),
    ]


def _process(name: str, at: float, patience: float, says: str) -> Process:
    """`at`: when it last spoke, or 0; `patience`: seconds without a word of it from which it counts as silent."""
    if not at:
        return Process(name, "never heard of", False, "")
    ago = max(time.time() - at, 0.0)
    heard = f"heard of {seconds(ago)} ago"
    return Process(
        name, "silent" if ago > patience else "works", ago <= patience, f"{heard}; {says}" if says else heard
    )


def _engines(metrics: str) -> list[Process]:
    """Each by its name, where there are several."""
    alive = by_engine(metrics, "telltale_engine_alive_at")
    names = ("partitions", "users_cached", "cache_hits", "cache_misses", "oldest_unflushed_ms")
    told = [by_engine(metrics, f"telltale_engine_{name}") for name in names]
    found = [
        _process(
            f"Engine {engine}" if len(alive) > 1 else "Engine",
            at,
            ENGINE_SILENT_S,
            _engine(*(one.get(engine, 0.0) for one in told)) if engine in told[0] else "",
        )
        for engine, at in sorted(alive.items())
    ]
    return found or [_process("Engine", 0, ENGINE_SILENT_S, "")]


def _engine(partitions: float, cached: float, hits: float, misses: float, oldest: float) -> str:
    asked = f", who were {percent(hits / (hits + misses))} of those asked for" if hits + misses else ""
    people = plural(int(cached), "person", "people")
    works = f"{plural(int(partitions), 'partition')}; {people} in memory{asked}"
    return f"{works}; oldest unwritten work {seconds(oldest / 1000)}"


def _delivery(metrics: str) -> str:
    overdue = max(values(metrics, "telltale_deliveries_overdue_seconds"), default=0.0)
    broken = sum(values(metrics, "telltale_delivery_breakers_open"))
    left_alone = f"; {plural(int(broken), 'target')} left alone for a while, since they failed" if broken else ""
    return f"the longest due waits {seconds(overdue)}{left_alone}"


routes = [Route("/system", shown(system)), Route("/system/retry", shown(retry), methods=["POST"])]
