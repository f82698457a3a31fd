"""`/v1/webhooks`: the endpoints that an organisation's alerts are sent to, by Standard Webhooks 1.0."""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Callable
from typing import TypeVar

import msgspec
import sqlalchemy as sa
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from feature_repo.networks import networks
from flows import delivery_list, webhooks
from flows.addresses import RefusedError, check_url
from flows.delivery import wall_ms
from flows.delivery_list import Which
from flows.delivery_tables import nudge
from flows.webhooks import Webhook
from serving import alerts, api
from serving import webhook_messages as messages
from serving.alert_feed import Shelf
from serving.deliveries import announce
from serving.errors import MAX_SHOWN, ApiError, json_response
from serving.given import ERRORS, given
from serving.openapi import Operation, Parameter

BODY_BYTES = 64 * 1024
MOST = 1_000  # endpoints an organisation
OFF, AWAY = "the endpoint was disabled", "the endpoint was removed"
T = TypeVar("T")


async def make(request: Request) -> Response:
    told, now, organisation = (
        await given(request, messages.WebhookTold, BODY_BYTES),
        wall_ms(),
        api.organisation(request),
    )
    new = Webhook(
        id=f"wh_{secrets.token_hex(12)}",
        organisation=organisation,
        url=_url(request, told.url),
        description=told.description,
        events=_events(request, told.events),
        secret=webhooks.new_secret() if told.secret is None else _secret(told.secret),
        enabled=told.enabled,
        disabled_why=None if told.enabled else OFF,
        created_at=now,
        updated_at=now,
    )

    def change(sql: sa.Connection) -> int:
        there = len(webhooks.of_organisation(sql, organisation))
        if there < MOST:
            webhooks.add(sql, new)
        return there

    if await shelf(request).write(change) >= MOST:
        raise ApiError(409, f"there are {MOST} endpoints already, and no more can be kept")
    return json_response(messages.with_secret(new, now))


async def listed(request: Request) -> Response:
    organisation, now = api.organisation(request), wall_ms()
    all_ = await shelf(request).read(lambda sql: webhooks.of_organisation(sql, organisation))
    return json_response(messages.WebhookList([messages.shown(one, now) for one in all_]))


async def one(request: Request) -> Response:
    return json_response(messages.shown(await found(request), wall_ms()))


async def secret(request: Request) -> Response:
    one_ = await found(request)
    return json_response(messages.WebhookSecret(one_.id, one_.secret))


async def patch(request: Request) -> Response:
    told, now = await given(request, messages.WebhookChange, BODY_BYTES), wall_ms()
    given_ = {name: value for name, value in msgspec.structs.asdict(told).items() if value is not UNSET}
    if "url" in given_:
        given_["url"] = _url(request, given_["url"])
    if "events" in given_:
        given_["events"] = _events(request, given_["events"])
    if "enabled" in given_:
        given_["disabled_why"] = None if given_["enabled"] else OFF

    def change(sql: sa.Connection, old: Webhook) -> Webhook:
        new = msgspec.structs.replace(old, **given_, updated_at=now)
        webhooks.save(sql, new)
        if old.enabled and not new.enabled:
            delivery_list.cancel(sql, whose(old), OFF, now, "DEAD")
        nudge(sql, webhooks.NAME, old.id)
        return new

    return json_response(messages.shown(await changed(request, change), now))


async def remove(request: Request) -> Response:
    def change(sql: sa.Connection, old: Webhook) -> messages.WebhookRemoved:
        webhooks.remove(sql, old.id)
        nudge(sql, webhooks.NAME, old.id)
        return messages.WebhookRemoved(old.id, delivery_list.cancel(sql, whose(old), AWAY, wall_ms()))

    return json_response(await changed(request, change))


async def rotate(request: Request) -> Response:
    now = wall_ms()

    def change(sql: sa.Connection, old: Webhook) -> Webhook:
        new = webhooks.rotated(old, now)
        webhooks.save(sql, new)
        return new

    return json_response(messages.with_secret(await changed(request, change), now))


async def found(request: Request) -> Webhook:
    """The endpoint that is asked for. Raises ApiError 404."""
    organisation, id_ = api.organisation(request), request.path_params["id"]
    one_ = await shelf(request).read(lambda sql: webhooks.find(sql, organisation, id_))
    if one_ is None:
        raise _absent(id_)
    return one_


async def changed(request: Request, change: Callable[[sa.Connection, Webhook], T]) -> T:
    """What `change` gives, in a transaction; then the process that sends is told. Raises ApiError 404."""
    organisation, id_ = api.organisation(request), request.path_params["id"]

    def change_(sql: sa.Connection) -> T:
        one_ = webhooks.find(sql, organisation, id_)
        if one_ is None:
            raise _absent(id_)
        return change(sql, one_)

    done = await shelf(request).write(change_)
    await announce(request)
    return done


def _absent(id_: str) -> ApiError:
    return ApiError(404, f"there is no webhook {id_[:MAX_SHOWN]!r}", "id")


def whose(one: Webhook) -> Which:
    return Which(organisation=one.organisation, channel=webhooks.NAME, target=one.id)


def shelf(request: Request) -> Shelf:
    return alerts.of(request).shelf


def _url(request: Request, text: str) -> str:
    """As it was given, if it may be sent to as far as can be told now. Raises ApiError 422."""
    try:
        check_url(text, networks(api.of(request).settings.webhook_allow))
    except RefusedError as error:
        raise ApiError(422, str(error), "url") from None
    return text


def _events(request: Request, told: list[str]) -> tuple[str, ...]:
    """Raises ApiError 422 for a type that there is not."""
    types = [service.alert for service in api.of(request).vocabulary.services if service.alert]
    known = ("alert", webhooks.OPENED, *(webhooks.event_of(one) for one in types))
    for one in told:
        if one not in known:
            raise ApiError(422, f"expected some of {', '.join(known)}, got {one!r}", "events")
    return tuple(dict.fromkeys(told))


def _secret(told: str) -> str:
    """Raises ApiError 422."""
    try:
        size = len(base64.b64decode(told.removeprefix(webhooks.PREFIX), validate=True))
    except (binascii.Error, ValueError):
        size = 0
    if not told.startswith(webhooks.PREFIX) or not webhooks.LEAST_SECRET <= size <= webhooks.MOST_SECRET:
        raise ApiError(422, f"expected {webhooks.PREFIX} and base64 of 24 to 64 bytes", "secret")
    return told


_PATH, ONE = "/v1/webhooks", "/v1/webhooks/{id}"
routes = [
    Route(_PATH, make, methods=["POST"]),
    Route(_PATH, listed),
    Route(ONE, one),
    Route(ONE, patch, methods=["PATCH"]),
    Route(ONE, remove, methods=["DELETE"]),
    Route(f"{ONE}/secret", secret),
    Route(f"{ONE}/rotate", rotate, methods=["POST"]),
]
ID = Parameter("id", "the webhook's id", where="path")
NONE = {404: "no such webhook"}


def operation(path: str, method: str, summary: str, gives: type, **more: object) -> Operation:
    parameters = () if path == _PATH else (ID,)
    errors = {} if path == _PATH else NONE
    told = {"parameters": parameters, "errors": errors} | more
    return Operation(path=path, method=method, summary=summary, tag="Delivery", gives=gives, **told)  # type: ignore[arg-type]


operations = [
    operation(
        _PATH,
        "post",
        "A new endpoint; the answer holds the secret that it is signed with",
        messages.WebhookWithSecret,
        takes=messages.WebhookTold,
        errors={**ERRORS, 409: "there are too many"},
    ),
    operation(_PATH, "get", "All endpoints", messages.WebhookList),
    operation(ONE, "get", "One endpoint", messages.ShownWebhook),
    operation(
        ONE,
        "patch",
        "Change an endpoint; what waits for one that is disabled goes to the dead list",
        messages.ShownWebhook,
        takes=messages.WebhookChange,
        may_lack=True,
        errors=ERRORS | NONE,
    ),
    operation(ONE, "delete", "Remove an endpoint; what waits for it is cancelled", messages.WebhookRemoved),
    operation(f"{ONE}/secret", "get", "The secret that it is signed with", messages.WebhookSecret),
    operation(f"{ONE}/rotate", "post", "A new secret; the old one signs too for 24 hours", messages.WebhookWithSecret),
]
