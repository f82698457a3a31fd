"""`/v1/alerts`: the list, one, and the live stream (server-sent events). Each key sees its own organisation's."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated, Any, get_args

import msgspec
from msgspec import Meta
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from feature_repo.vocabulary import Vocabulary
from flows import read_marks
from flows.alert import Priority, Status
from flows.alert_status import MOST_WHO
from flows.alert_store import Filter, Place, Stored
from serving import api
from serving.alert_cursor import EVENT, cursor
from serving.alert_feed import Feed, Shelf, frames
from serving.alert_shown import Show, ShownAlert, ShownStep, shower
from serving.errors import MAX_SHOWN, ApiError, json_response
from serving.given import PERSON
from serving.openapi import STREAM, Operation, Parameter
from serving.query import MOMENT, SHARE, Reader, asked, between, moment, read, span, value

MOST = 500  # alerts a page
USUAL = 50


class AlertPage(msgspec.Struct):
    """Alerts, latest scored first. `next`: cursor of the next page; null on the last. Times are ms since 1970."""

    alerts: list[ShownAlert]
    next: str | None


class Alerts(msgspec.Struct):
    """What the routes share."""

    shelf: Shelf
    feed: Feed
    show: Show
    types: Reader


@contextlib.asynccontextmanager
async def running(app: Starlette, parts: api.Api) -> AsyncIterator[None]:
    """For the app's lifespan: opens the table and listens for new alerts."""
    shelf, show = Shelf(parts.settings), shower(parts.vocabulary)
    app.state.alerts = Alerts(shelf, Feed(parts.settings, shelf, show), show, _types(parts.vocabulary))
    listener = asyncio.create_task(app.state.alerts.feed.listen())
    try:
        yield
    finally:
        listener.cancel()
        await asyncio.gather(listener, return_exceptions=True)
        shelf.store.close()


async def listed(request: Request) -> Response:
    return await _listed(request, LIST_READERS)


async def of_user(request: Request) -> Response:
    readers = {name: reader for name, reader in LIST_READERS.items() if name != "user"}
    return await _listed(request, readers, user=request.path_params["user"])


async def _listed(request: Request, readers: dict[str, Reader], **whose: str) -> Response:
    mine = of(request)
    given = asked(request, readers | {"type": mine.types}) | whose
    only, before, limit = _filter(request, given), given.get("cursor"), given.get("limit", USUAL)
    found = await mine.shelf.ask(lambda store: store.newest(only, limit + 1, before))
    more = "{}-{}".format(*found[limit - 1].place) if len(found) > limit else None
    return json_response(AlertPage(await _shown(request, found[:limit], given.get("by")), more))


async def _shown(request: Request, found: list[Stored], by: str | None) -> list[ShownAlert]:
    """With what that reader has read."""
    mine = of(request)
    shown = [mine.show(one.alert) for one in found]
    if by is None:
        return shown
    who, seqs = read_marks.Reader(api.organisation(request), by), [one.seq for one in found]
    read = await mine.shelf.read(lambda sql: read_marks.read_of(sql, who, seqs))
    pairs = zip(shown, seqs, strict=True)
    return [msgspec.structs.replace(one, read=seq in read) for one, seq in pairs]


async def one(request: Request) -> Response:
    alert, organisation = request.path_params["id"], api.organisation(request)
    mine = of(request)
    found = await mine.shelf.ask(lambda store: store.find(alert, organisation))
    if found is None:
        raise no_alert(alert)
    return json_response(mine.show(found))


def no_alert(alert: str) -> ApiError:
    return ApiError(404, f"there is no alert {alert[:MAX_SHOWN]!r}", "id")


async def stream(request: Request) -> Response:
    feed = of(request).feed
    given = asked(request, STREAM_READERS | {"type": of(request).types})
    last = request.headers.get("last-event-id") or None
    after = given.get("after") if last is None else read("Last-Event-ID", last, cursor)
    start = await feed.start(after, steps=given.get("steps", False))
    headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
    who = read_marks.Reader(api.organisation(request), given["by"]) if "by" in given else None
    sent = frames(feed, start, _filter(request, given), partial(api.still_let_in, request), who)
    return StreamingResponse(sent, headers=headers, media_type=STREAM)


FILTERS = {
    "type": "alert type, as `LIKELY_TO_SELL`; one that no model raises is refused",
    "priority": "CRITICAL, HIGH, MEDIUM or LOW",
    "user": "of one person",
    "min_score": "calibrated score, at least",
    "status": "where they stand; in the stream also: the status that a step leads to",
    "withheld": "true: those that are kept from everybody, for comparison; else the others",
}
SPAN = {"since": "scored then or later: ISO 8601, or ms since 1970", "until": "scored before that"}


def _types(vocabulary: Vocabulary) -> Reader:
    """Of the types that there are, so that a slip of the pen is not answered as "none of these yet"."""
    known = tuple(service.alert for service in vocabulary.services if service.alert)

    def type_(text: str) -> str:
        if text not in known:
            raise ValueError(f"expected one of {', '.join(known)}")
        return text

    return type_


def _place(text: str) -> Place:
    """A cursor, as `next` gave it."""
    scored, number = _read_place(text).split("-")
    return int(scored), int(number)


PLACE = Annotated[str, Meta(pattern="^[0-9]{1,18}-[0-9]{1,18}$")]
_read_place = value(PLACE, "what `next` gave")
WHO = Annotated[str, Meta(min_length=1, max_length=MOST_WHO)]
KINDS: dict[str, Any] = {"priority": Priority, "min_score": SHARE, "status": Status, "withheld": bool}
FILTER_READERS: dict[str, Reader] = {
    "type": str,
    "user": str,
    "priority": value(Priority, f"one of {', '.join(get_args(Priority))}"),
    "min_score": value(SHARE, "a number from 0 to 1"),
    "status": value(Status, f"one of {', '.join(get_args(Status))}"),
    "withheld": value(bool, "true or false"),
    "by": value(WHO, f"1 to {MOST_WHO} characters"),
}
LIST_READERS: dict[str, Reader] = {
    **FILTER_READERS,
    "since": moment,
    "until": moment,
    "limit": between(1, MOST),
    "cursor": _place,
}
STREAM_READERS: dict[str, Reader] = {**FILTER_READERS, "after": cursor, "steps": value(bool, "true or false")}


def _filter(request: Request, given: dict[str, Any]) -> Filter:
    wanted = {k: v for k, v in given.items() if k in {*FILTERS, *SPAN}}
    return Filter(**({"withheld": False} | wanted | {"organisation": api.organisation(request)}))


def of(request: Request) -> Alerts:
    """What the routes of alerts share."""
    return request.app.state.alerts


routes = [
    Route("/v1/alerts", listed),
    Route("/v1/alerts/stream", stream),
    Route("/v1/alerts/{id}", one),
    Route("/v1/users/{user:path}/alerts", of_user),
]
_filters = (
    *(Parameter(name, says, KINDS.get(name, str)) for name, says in FILTERS.items()),
    Parameter("by", "who reads: then each alert says whether they have read it", WHO),
)
_paging = (
    *(Parameter(name, says, MOMENT) for name, says in SPAN.items()),
    Parameter("limit", f"at most so many; {USUAL} unless told, {MOST} at most", span(1, MOST)),
    Parameter("cursor", "`next` of the page before", PLACE),
)
_UNREAD = {400: "a parameter that cannot be read; `field` names it"}
ID = Parameter("id", "the alert's id", where="path")
operations = [
    Operation(
        path="/v1/alerts",
        summary="Alerts, newest first",
        tag="Alerts",
        gives=AlertPage,
        parameters=(*_filters, *_paging),
        errors=_UNREAD,
    ),
    Operation(
        path="/v1/users/{id}/alerts",
        summary="A person's alerts, newest first",
        tag="Alerts",
        gives=AlertPage,
        parameters=(PERSON, *(p for p in _filters if p.name != "user"), *_paging),
        errors=_UNREAD,
    ),
    Operation(
        path="/v1/alerts/stream",
        summary="Alerts as they are stored (server-sent events `alert`; with `steps` also `status`, as they move)",
        tag="Alerts",
        gives=(ShownAlert, ShownStep),
        media=STREAM,
        parameters=(
            *_filters,
            Parameter("steps", "true: also each step that an alert takes, with ShownStep as data", bool),
            Parameter("after", "begin after this event id; without it, with what is new", EVENT),
            Parameter("Last-Event-ID", "go on after this event id, as browsers do by themselves", EVENT, "header"),
        ),
        errors=_UNREAD,
    ),
    Operation(
        path="/v1/alerts/{id}",
        summary="One alert",
        tag="Alerts",
        gives=ShownAlert,
        parameters=(ID,),
        errors={404: "no such alert"},
    ),
]
