"""`/v1/deliveries`: what was sent where, what waits and what is dead, and dead ones sent again."""

from __future__ import annotations

import contextlib
from typing import Annotated

import msgspec
import sqlalchemy as sa
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from feature_repo import keys
from flows import delivery_list
from flows.delivery import wall_ms
from flows.delivery_list import Attempt, Listed, Which
from flows.delivery_state import STATES, State
from flows.resp import StoreError, pack
from serving import alerts, api
from serving.delivery_shown import ShownAttempt, ShownDelivery, shown, shown_attempt
from serving.errors import MAX_SHOWN, ApiError, json_response
from serving.given import ERRORS, given
from serving.openapi import Operation, Parameter
from serving.query import NUMBER, Reader, asked, between, number, span, value

MOST, USUAL = 500, 50  # deliveries a page
BODY_BYTES = 256 * 1024
TRIES_SHOWN = 100
FILTERS = {
    "state": "WAITING, ACTIVE, DONE, DEAD, FOLDED (into a digest) or CANCELLED",
    "channel": "as `webhook`",
    "target": "as a webhook's id",
    "alert": "of one alert, by its id",
}
READERS: dict[str, Reader] = {
    "state": value(State, f"one of {', '.join(STATES)}"),
    "channel": str,
    "target": str,
    "alert": str,
    "limit": between(1, MOST),
    "cursor": number,
}


class DeliveryPage(msgspec.Struct):
    """Deliveries, the latest planned first. `next`: cursor of the next page; null on the last."""

    deliveries: list[ShownDelivery]
    next: str | None


class DeliveryInfo(msgspec.Struct):
    """One delivery and its attempts, latest first."""

    delivery: ShownDelivery
    attempts: list[ShownAttempt]


class RetryAsked(msgspec.Struct, forbid_unknown_fields=True):
    """Which to send again: by id, or all that are dead of a channel, or of one of its targets."""

    ids: Annotated[list[str], Meta(max_length=1_000)] = []
    channel: str | None = None
    target: str | None = None


class Retried(msgspec.Struct):
    """Ids of those that are due again, with all their tries before them. `more`: call again for the rest."""

    retried: list[str]
    more: bool


async def listed(request: Request) -> Response:
    told = asked(request, READERS)
    limit, before = told.pop("limit", USUAL), told.pop("cursor", None)
    which = Which(organisation=api.organisation(request), **told)

    def ask(sql: sa.Connection) -> list[Listed]:
        return delivery_list.listed(sql, which, limit + 1, before)

    found = await alerts.of(request).shelf.read(ask)
    more = str(found[limit - 1].seq) if len(found) > limit else None
    return json_response(DeliveryPage([shown(one) for one in found[:limit]], more))


async def one(request: Request) -> Response:
    which = Which(organisation=api.organisation(request), id=request.path_params["id"])

    def ask(sql: sa.Connection) -> tuple[list[Listed], list[Attempt]]:
        return delivery_list.listed(sql, which, 1), delivery_list.tried(sql, which, TRIES_SHOWN)

    found, tries = await alerts.of(request).shelf.read(ask)
    if not found:
        raise ApiError(404, f"there is no delivery {request.path_params['id'][:MAX_SHOWN]!r}", "id")
    return json_response(DeliveryInfo(shown(found[0]), [shown_attempt(one) for one in tries]))


async def retry(request: Request) -> Response:
    told = await given(request, RetryAsked, BODY_BYTES)
    if bool(told.ids) == bool(told.channel):
        raise ApiError(422, "expected `ids`, or a `channel` (and a `target`) whose dead ones are meant", "ids")
    which = Which(organisation=api.organisation(request), channel=told.channel, target=told.target)

    def change(sql: sa.Connection) -> list[str]:
        if told.ids:
            return delivery_list.retry(sql, which, told.ids, wall_ms())
        return delivery_list.retry_dead(sql, which, wall_ms())

    found = await alerts.of(request).shelf.write(change)
    await announce(request)
    return json_response(Retried(found, not told.ids and len(found) == delivery_list.MANY))


async def announce(request: Request) -> None:
    """There is something new for the process that sends; it looks by itself each second."""
    with contextlib.suppress(StoreError):
        await api.of(request).client.call(pack("PUBLISH", keys.DELIVERIES, ""))


routes = [
    Route("/v1/deliveries", listed),
    Route("/v1/deliveries/retry", retry, methods=["POST"]),
    Route("/v1/deliveries/{id}", one),
]
operations = [
    Operation(
        path="/v1/deliveries",
        summary="Deliveries, the latest first",
        tag="Delivery",
        gives=DeliveryPage,
        parameters=(
            *(Parameter(name, says, State if name == "state" else str) for name, says in FILTERS.items()),
            Parameter("limit", f"at most so many; {USUAL} unless told, {MOST} at most", span(1, MOST)),
            Parameter("cursor", "`next` of the page before", NUMBER),
        ),
        errors={400: "a parameter that cannot be read; `field` names it"},
    ),
    Operation(
        path="/v1/deliveries/retry",
        method="post",
        summary="Send again what is dead (or waits): by ids, or all dead ones of a channel or target",
        tag="Delivery",
        takes=RetryAsked,
        gives=Retried,
        errors=ERRORS,
    ),
    Operation(
        path="/v1/deliveries/{id}",
        summary="One delivery, and its attempts",
        tag="Delivery",
        gives=DeliveryInfo,
        parameters=(Parameter("id", "the delivery's id", where="path"),),
        errors={404: "no such delivery"},
    ),
]
