"""`/statistics`: what came of the alerts between two dates, as charts with the tables that they are drawn from."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving import api
from serving.errors import ApiError
from serving.page import page, shown
from serving.page_alerts import choices
from serving.page_ask import ask
from serving.page_charts import calibration, columns

DAY = 86_400_000  # ms
MOST = 31  # columns
AT_ONCE = 4  # columns asked for: others want connections, too
STEPS = (1, 2, 7, 14, 28, 91, 364)  # days a column, the finest that needs no more than MOST
PRESETS = (7, 30, 90, 365)  # days


class Dates(msgspec.Struct, frozen=True):
    """Both included, UTC; None: open."""

    first: date | None
    last: date | None

    @property
    def query(self) -> list[tuple[str, str]]:
        """As the API takes them: `until` is excluded there."""
        found = [("since", self.first.isoformat())] if self.first else []
        return found + ([("until", (self.last + timedelta(days=1)).isoformat())] if self.last else [])


class Column(msgspec.Struct, frozen=True):
    """Some days: alerts scored then, and those of them that converted by now."""

    dates: Dates
    alerts: int
    converted: int


async def statistics(request: Request) -> Response:
    problem, dates = "", Dates(None, None)
    try:
        dates = _dates(request)
    except ApiError as error:
        problem = error.detail
    kind = request.query_params.get("type", "")
    only = [("type", kind)] if kind in choices(request)["types"] else []
    today = await _today(request)
    stats, models = await asyncio.gather(
        ask(request, "/v1/alerts/stats", [*dates.query, *only]), ask(request, "/v1/models/performance", dates.query)
    )
    course = await _course(request, dates, today, stats, only)
    return page(
        request,
        "statistics.html",
        400 if problem else 200,
        problem=problem,
        dates=dates,
        kind=kind,
        stats=stats,
        models=[one for one in models["versions"] if kind in ("", one["type"])],
        course=course,
        chart=columns([(_says(one), one.alerts, one.converted) for one in course]),
        reliability=_reliability(stats["by_score"]),
        presets=[(days, _preset(today, days, kind)) for days in PRESETS],
        **choices(request),
    )


def _dates(request: Request) -> Dates:
    """Raises ApiError 400."""
    found = Dates(_date(request, "since"), _date(request, "until"))
    if found.first and found.last and found.first > found.last:
        raise ApiError(400, "the first day comes after the last", "until")
    return found


def _date(request: Request, name: str) -> date | None:
    text = request.query_params.get(name, "").strip()
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise ApiError(400, f"expected a date as 2026-03-31, got {text[:100]!r}", name) from None


async def _today(request: Request) -> date:
    """By the log's time where the store has that."""
    parts = api.of(request)
    return datetime.fromtimestamp(await parts.clock.now_ms(parts.client) / 1000, UTC).date()


def _preset(today: date, days: int, kind: str) -> str:
    query = {"since": (today - timedelta(days=days - 1)).isoformat()} | ({"type": kind} if kind else {})
    return f"/statistics?{urlencode(query)}"


async def _course(
    request: Request, dates: Dates, today: date, stats: dict[str, Any], only: list[tuple[str, str]]
) -> list[Column]:
    """Alerts over the dates, or since the first of them, in at most MOST columns."""
    if not stats["totals"]["alerts"]:
        return []
    last = min(dates.last or today, today)
    first = dates.first or last - timedelta(days=int(stats["load"]["days"]))
    days = max((last - first).days + 1, 1)
    step = next((n for n in STEPS if days <= n * MOST), -(-days // MOST))
    spans = [_span(last, step, n) for n in reversed(range(-(-days // step)))]
    lanes = asyncio.Semaphore(AT_ONCE)

    async def one(span: Dates) -> Any:
        async with lanes:
            return await ask(request, "/v1/alerts/stats", [*span.query, *only])

    found = await asyncio.gather(*map(one, spans))
    totals = [one["totals"] for one in found]
    return [Column(s, t["alerts"], t["converted"]) for s, t in zip(spans, totals, strict=True)]


def _span(last: date, step: int, back: int) -> Dates:
    end = last - timedelta(days=back * step)
    return Dates(end - timedelta(days=step - 1), end)


def _says(one: Column) -> str:
    when = str(one.dates.first) if one.dates.first == one.dates.last else f"{one.dates.first} to {one.dates.last}"
    return f"{when}: {one.alerts:,}, {one.converted:,} converted"


def _reliability(by_score: dict[str, Any]) -> str:
    """Of each tenth of scores its middle against the share that came about; empty where nothing is told."""
    points = [(float(low) + 0.05, s["precision"]["share"], float(s["precision"]["of"])) for low, s in by_score.items()]
    told = [point for point in points if point[1] is not None]
    return calibration(told) if told else ""


routes = [Route("/statistics", shown(statistics))]
