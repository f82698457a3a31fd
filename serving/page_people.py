"""`/people/{id}`: one person as they move: scores, signals, features, the events behind them, their alerts."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving import api
from serving.page import go, page, reader, shown
from serving.page_alerts import choices
from serving.page_ask import ask, perhaps
from serving.page_charts import trend
from serving.page_words import quoted

RECENT = 100  # alerts whose people are offered to begin with
ALERTS, EVENTS, HISTORY = 20, 20, 400  # shown of one person


async def people(request: Request) -> Response:
    """A field for an id, and who had an alert lately."""
    if wanted := request.query_params.get("id", "").strip():
        return go(f"/people/{quoted(wanted)}")
    told = await ask(request, "/v1/alerts", [("limit", str(RECENT))])
    latest: dict[str, dict[str, Any]] = {}
    for alert in told["alerts"]:
        latest.setdefault(alert["user"], alert)
    return page(request, "people.html", latest=list(latest.values()), **choices(request))


async def person(request: Request) -> Response:
    user = request.path_params["user"]
    theirs = f"/v1/users/{quoted(user)}"
    features, scores, signals, last, alerts = await asyncio.gather(
        perhaps(request, f"{theirs}/features"),
        perhaps(request, f"{theirs}/scores"),
        perhaps(request, f"{theirs}/signals", [("events", str(EVENTS))]),
        perhaps(request, f"/v1/scores/{quoted(user)}", [("limit", str(HISTORY))]),
        ask(request, f"{theirs}/alerts", [("limit", str(ALERTS)), ("by", reader(request))]),
    )
    heard = sorted(signals["signals"], key=lambda s: -s["strength"]) if signals else []
    return page(
        request,
        "person.html",
        user=user,
        features=features,
        telling=_telling(request, features["features"]) if features else {},
        scores=scores,
        trends=_trends(last["history"]) if last else {},
        signals=heard,
        events=_events(heard),
        alerts=alerts["alerts"],
        watch=f"{theirs}/features",
        stream=f"/v1/alerts/stream?{urlencode({'user': user, 'steps': 'true'})}",
        **choices(request),
    )


def _telling(request: Request, features: dict[str, Any]) -> dict[str, Any]:
    """The features that are known and not what they are of everybody."""
    usual = {feature.name: feature.default for feature in api.of(request).vocabulary.features}
    return {name: f for name, f in features.items() if f["value"] not in (None, usual.get(name))}


def _events(signals: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those behind the signals that are heard, newest first, each with the signals that count it."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for signal in (s for s in signals if s["strength"]):
        for event in signal["events"]:
            known = found.setdefault((event["messageId"], event["ts"], event["event"]), event | {"signals": []})
            known["signals"].append(signal["name"])
    return sorted(found.values(), key=lambda event: event["ts"], reverse=True)[:EVENTS]


def _trends(history: list[dict[str, Any]]) -> dict[str, str]:
    """Of each model the course of its scores, drawn."""
    courses: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for score in reversed(history):
        courses[score["model"]].append((score["at"], score["score"]))
    return {model: trend(course) for model, course in courses.items() if len(course) > 1}


routes = [Route("/people", shown(people)), Route("/people/{user:path}", shown(person))]
