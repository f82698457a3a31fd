"""`/v1/alerts/stats` and `/v1/models/performance`: what came of alerts, by what they are and by who raised them."""

from __future__ import annotations

import asyncio
import time
from functools import cached_property
from typing import Annotated

import msgspec
import redis
import sqlalchemy as sa
from msgspec import Meta
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from flows import alert_stats, delivery_figures
from flows.active_people import Active, active
from flows.alert_stats import END, YEAR, Performance, Range, Stats
from flows.resp import StoreError
from flows.store import connect
from serving import alerts, api
from serving.errors import ApiError, json_response, unavailable
from serving.openapi import Operation, Parameter
from serving.query import MOMENT, Reader, asked, moment

FRESH_S = 300.0  # for which a count of people is believed
READERS: dict[str, Reader] = {"since": moment, "until": moment}


class Load(msgspec.Struct, kw_only=True):
    """How often people are alerted about, a year and active person, beside what is meant (`TELLTALE_ALERT_BUDGET`).

    `active_people`: who did something in the last year, an estimate from a `sample` of everybody (1: all).
    """

    alerts_a_year: Annotated[float | None, Meta(description="Null where nobody is active")]
    budget: float
    active_people: int
    sample: float
    days: Annotated[float, Meta(description="Of the dates asked for, or since the first alert")]


class Queue(msgspec.Struct, kw_only=True):
    """Deliveries: waiting and active now, done ever, attempts that failed ever, dead now."""

    waiting: int
    active: int
    done: int
    failed: int
    dead: int


class AlertStats(Stats, frozen=True, kw_only=True):
    """Of the alerts scored from `since` up to `until` (ms since 1970; null: open). Intervals hold 95 %."""

    since: int | None
    until: int | None
    load: Load
    queue: Queue


class ModelsPerformance(msgspec.Struct):
    """Every version of every model that raised alerts."""

    versions: list[Performance]


class People:
    """How many are active: counted on a thread, and again, behind the answer, when the count is old."""

    def __init__(self, parts: api.Api) -> None:
        self._parts = parts
        self._found: Active | None = None
        self._at = 0.0
        self._counting: asyncio.Task[None] | None = None

    async def active(self) -> Active:
        """Raises ApiError 503 and StoreError."""
        if self._counting is None and time.monotonic() - self._at > FRESH_S:
            self._counting = asyncio.create_task(self._count())
        if self._found is None and self._counting is not None:
            await asyncio.shield(self._counting)
        if self._found is None:
            raise unavailable("the store is not reachable: people cannot be counted")
        return self._found

    async def _count(self) -> None:
        try:
            now = await self._parts.clock.now_ms(self._parts.client)
            store, vocabulary = self._parts.store, self._parts.vocabulary
            self._found = await run_in_threadpool(active, self._client, store, vocabulary, now)
            self._at = time.monotonic()
        except (redis.RedisError, StoreError):
            return  # the last count holds on
        finally:
            self._counting = None

    @cached_property
    def _client(self) -> redis.Redis:
        return connect(self._parts.settings)


async def stats(request: Request) -> Response:
    mine, parts, organisation = alerts.of(request), api.of(request), api.organisation(request)
    given = asked(request, READERS | {"type": mine.types})
    when, type_, cost = _range(given), given.get("type"), parts.settings.alert_cost
    people = await request.app.state.people.active()
    now = await parts.clock.now_ms(parts.client)

    def ask(sql: sa.Connection) -> AlertStats:
        found = alert_stats.stats(sql, organisation, when, type_, cost)
        since = when[0] if "since" in given else alert_stats.first(sql, organisation) or now
        days = alert_stats.days((since, min(when[1], max(now, since))))
        queue = delivery_figures.figures(sql, organisation)
        return AlertStats(
            **msgspec.structs.asdict(found),
            since=given.get("since"),
            until=given.get("until"),
            load=_load(found.totals.alerts, days, people, organisation, parts.settings.alert_budget),
            queue=Queue(**{name: getattr(queue, name) for name in Queue.__struct_fields__}),
        )

    return json_response(await mine.shelf.read(ask))


async def performance(request: Request) -> Response:
    when, organisation = _range(asked(request, READERS)), api.organisation(request)
    found = await alerts.of(request).shelf.read(lambda sql: alert_stats.performance(sql, organisation, when))
    return json_response(ModelsPerformance(found))


def _range(given: dict[str, int]) -> Range:
    """Raises ApiError 400."""
    since, until = given.get("since", 0), min(given.get("until", END), END)
    if since > until:
        raise ApiError(400, "expected a time after `since`", "until")
    return since, until


def _load(found: int, days: float, people: Active, organisation: str, budget: float) -> Load:
    count = people.people.get(organisation, 0)
    return Load(
        alerts_a_year=found / count / days * YEAR if count else None,
        budget=budget,
        active_people=count,
        sample=people.share,
        days=days,
    )


routes = [Route("/v1/alerts/stats", stats), Route("/v1/models/performance", performance)]
_SPAN = (
    Parameter("since", "scored then or later: ISO 8601, or ms since 1970", MOMENT),
    Parameter("until", "scored before that", MOMENT),
)
_UNREAD = {400: "a parameter that cannot be read; `field` names it"}
operations = [
    Operation(
        path="/v1/alerts/stats",
        summary="What came of alerts: by type, status, priority and score, with intervals; the load; the queue",
        tag="Alerts",
        gives=AlertStats,
        parameters=(*_SPAN, Parameter("type", "of one alert type")),
        errors=_UNREAD,
    ),
    Operation(
        path="/v1/models/performance",
        summary="What came of the alerts of each version of each model: predicted against observed",
        tag="Models",
        gives=ModelsPerformance,
        parameters=_SPAN,
        errors=_UNREAD,
    ),
]
