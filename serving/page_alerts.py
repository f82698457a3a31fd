"""`/`: alerts as they come, why and what to do; `/alerts/{id}`: one, with all that became of it."""

from __future__ import annotations

import asyncio
from typing import Any, get_args
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from flows import words
from flows.alert import Priority, Status
from serving import alerts, api
from serving.alert_cursor import Reached
from serving.errors import ApiError
from serving.page import page, reader, shown
from serving.page_ask import ask, perhaps, tell
from serving.page_words import quoted

A_PAGE = 50
JUDGEMENTS = {
    "TRUE_POSITIVE": "It came about",
    "FALSE_POSITIVE": "It did not come about",
    "FALSE_NEGATIVE": "It came about, though nobody was told",
    "TRUE_NEGATIVE": "It did not come about, as expected",
}
FILTERS = ("status", "type", "priority", "user", "min_score", "withheld")


async def listed(request: Request) -> Response:
    given = _given(request)
    cursor = request.query_params.get("cursor", "")
    reached = await alerts.of(request).feed.start(None, steps=True)  # before the list, so that nothing falls between
    told: dict[str, Any] = {"alerts": [], "next": None}
    problem = ""
    try:
        asked = [
            *given.items(),
            ("by", reader(request)),
            ("limit", str(A_PAGE)),
            *([("cursor", cursor)] if cursor else []),
        ]
        told = await ask(request, "/v1/alerts", asked)
    except ApiError as error:
        if error.status != 400:
            raise
        problem = f"{(error.field or '').replace('_', ' ').capitalize()}: {error.detail}"
    unread = await ask(request, "/v1/alerts/unread", [("by", reader(request))])
    return page(
        request,
        "alerts.html",
        400 if problem else 200,
        alerts=told["alerts"],
        unread=unread["unread"],
        given=given | ({"cursor": cursor} if cursor else {}),
        older=_to(given | {"cursor": told["next"]}) if told["next"] else "",
        first=_to(given),
        stream="" if problem else _stream(given, reached),
        problem=problem,
        **choices(request),
    )


async def one(request: Request) -> Response:
    path = f"/v1/alerts/{quoted(request.path_params['id'])}"
    alert = await ask(request, path)
    if request.method == "GET":  # who has it before them has read it
        await tell(request, "POST", "/v1/alerts/read", {"ids": [alert["id"]], "by": reader(request)})
    steps, outcome, sent = await asyncio.gather(
        ask(request, f"{path}/history"),
        perhaps(request, f"{path}/outcome"),
        ask(request, f"{path}/deliveries"),
    )
    return page(
        request,
        "alert.html",
        alert=alert,
        steps=steps["steps"],
        outcome=outcome,
        judgements=JUDGEMENTS,
        deliveries=sent["deliveries"],
        **choices(request),
    )


def choices(request: Request) -> dict[str, Any]:
    """What alerts can be, and what to do about one."""
    advised = words.advice(api.of(request).vocabulary)

    def advice(alert: dict[str, Any]) -> str:
        """As a mail about it says."""
        return advised.get(alert["type"]) or words.SOON[alert["priority"]]

    return {
        "types": list(advised),
        "advice": advice,
        "priorities": get_args(Priority),
        "statuses": get_args(Status),
    }


def _given(request: Request) -> dict[str, str]:
    query = request.query_params
    return {name: query[name].strip() for name in FILTERS if query.get(name, "").strip()}


def _stream(given: dict[str, str], reached: Reached) -> str:
    """Steps are wanted of all that a page may show: one that leaves its status is to leave the page."""
    query = {name: value for name, value in given.items() if name != "status"}
    return f"/v1/alerts/stream?{urlencode(query | {'steps': 'true', 'after': reached.id.decode()})}"


def _to(query: dict[str, str]) -> str:
    return f"/?{urlencode(query)}" if query else "/"


routes = [Route("/", shown(listed)), Route("/alerts/{id}", shown(one))]
