"""`/v1/webhooks`: the endpoints that an organisation's alerts are sent to, by Standard Webhooks 1.0."""

from __future__ import annotations

import asyncio
import base64
import binascii
import secrets
import time
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
from flows.channel import NewDelivery
from flows.delivery import wall_ms
from flows.delivery_list import Attempt, Which
from flows.delivery_rows import put
from flows.delivery_tables import nudge
from flows.webhooks import Webhook
from serving import alerts, api
from serving import webhook_messages as messages
from serving.alert_feed import Shelf
from serving.deliveries import announce
from serving.delivery_shown import AttemptPage, page, shown_attempt
from serving.errors import MAX_SHOWN, ApiError, json_response
from serving.given import ERRORS, given
from serving.openapi import Operation, Parameter
from serving.query import Reader, asked, between, whole

BODY_BYTES = 64 * 1024
MOST = 1_000  # endpoints an organisation
MOST_TRIES, USUAL_TRIES = 500, 50  # attempts a page
TEST_S, LOOK_S = 17.0, 0.05  # how long the answer to a test may take; between two looks whether it has come
OFF, AWAY = "the endpoint was disabled", "the endpoint was removed"
TRIES: dict[str, Reader] = {"limit": between(1, MOST_TRIES), "cursor": whole}
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
            webhooks.save(sql, new)
        return there

    if await _shelf(request).write(change) >= MOST:
        raise ApiError(409, f"there are {MOST} endpoints already, and no more can be kept")
    return json_response(messages.with_secret(new, now))


async def listed(request: Request) -> Response:
    organisation, now = api.organisation(request), wall_ms()
    found = await _shelf(request).read(lambda sql: webhooks.of_organisation(sql, organisation))
    return json_response(messages.WebhookList([messages.shown(one, now) for one in found]))


async def one(request: Request) -> Response:
    return json_response(messages.shown(await _found(request), wall_ms()))


async def secret(request: Request) -> Response:
    found = await _found(request)
    return json_response(messages.WebhookSecret(found.id, found.secret))


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
            delivery_list.cancel(sql, _whose(old), OFF, now, "DEAD")
        nudge(sql, webhooks.NAME, old.id)
        return new

    return json_response(messages.shown(await _changed(request, change), now))


async def remove(request: Request) -> Response:
    def change(sql: sa.Connection, old: Webhook) -> messages.WebhookRemoved:
        webhooks.remove(sql, old.id)
        nudge(sql, webhooks.NAME, old.id)
        return messages.WebhookRemoved(old.id, delivery_list.cancel(sql, _whose(old), AWAY, wall_ms()))

    return json_response(await _changed(request, change))


async def rotate(request: Request) -> Response:
    now = wall_ms()

    def change(sql: sa.Connection, old: Webhook) -> Webhook:
        new = webhooks.rotated(old, now)
        webhooks.save(sql, new)
        return new

    return json_response(messages.with_secret(await _changed(request, change), now))


async def test(request: Request) -> Response:
    """Through the outbox, as alerts go; tried once. Answers when it has come to its end, or with 202 before."""
    now = wall_ms()

    def change(sql: sa.Connection, to: Webhook) -> NewDelivery:
        if not to.enabled:
            raise ApiError(409, f"the endpoint is disabled ({to.disabled_why}): enable it first", "enabled")
        new = NewDelivery(
            organisation=to.organisation,
            channel=webhooks.NAME,
            target=to.id,
            of=f"test {secrets.token_hex(12)}",
            body=webhooks.test_body(to, now),
            tries=1,
        )
        put(sql, new, now)
        return new

    sent = await _changed(request, change)
    tried = await _awaited(request, sent)
    attempt = shown_attempt(tried) if tried else None
    told = messages.WebhookTested(sent.id, bool(tried and tried.result == "SENT"), attempt)
    return json_response(told, 200 if tried else 202)


async def attempts(request: Request) -> Response:
    told, found = asked(request, TRIES), await _found(request)
    limit, before = told.get("limit", USUAL_TRIES), told.get("cursor")
    tried = await _shelf(request).read(lambda sql: delivery_list.tried(sql, _whose(found), limit + 1, before))
    return json_response(page(tried, limit))


async def _awaited(request: Request, sent: NewDelivery) -> Attempt | None:
    """The attempt, unless it takes too long."""
    which, deadline = Which(id=sent.id), time.monotonic() + TEST_S
    while time.monotonic() < deadline:
        if found := await _shelf(request).read(lambda sql: delivery_list.tried(sql, which, 1)):
            return found[0]
        await asyncio.sleep(LOOK_S)
    return None


async def _found(request: Request) -> Webhook:
    organisation, id_ = api.organisation(request), request.path_params["id"]
    found = await _shelf(request).read(lambda sql: webhooks.find(sql, organisation, id_))
    if found is None:
        raise _absent(id_)
    return found


async def _changed(request: Request, change: Callable[[sa.Connection, Webhook], T]) -> T:
    """What `change` gives, in a transaction; then the process that sends is told."""
    organisation, id_ = api.organisation(request), request.path_params["id"]

    def change_(sql: sa.Connection) -> T:
        found = webhooks.find(sql, organisation, id_)
        if found is None:
            raise _absent(id_)
        return change(sql, found)

    done = await _shelf(request).write(change_)
    await announce(request)
    return done


def _absent(id_: str) -> ApiError:
    return ApiError(404, f"there is no webhook {id_[:MAX_SHOWN]!r}", "id")


def _whose(one: Webhook) -> Which:
    return Which(organisation=one.organisation, channel=webhooks.NAME, target=one.id)


def _shelf(request: Request) -> Shelf:
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


_PATH, _ONE = "/v1/webhooks", "/v1/webhooks/{id}"
routes = [
    Route(_PATH, make, methods=["POST"]),
    Route(_PATH, listed),
    Route(_ONE, one),
    Route(_ONE, patch, methods=["PATCH"]),
    Route(_ONE, remove, methods=["DELETE"]),
    Route(f"{_ONE}/secret", secret),
    Route(f"{_ONE}/rotate", rotate, methods=["POST"]),
    Route(f"{_ONE}/test", test, methods=["POST"]),
    Route(f"{_ONE}/attempts", attempts),
]
_ID = Parameter("id", "the webhook's id", where="path")
_NONE = {404: "no such webhook"}


def _operation(path: str, method: str, summary: str, gives: type, **more: object) -> Operation:
    parameters = () if path == _PATH else (_ID,)
    errors = {} if path == _PATH else _NONE
    told = {"parameters": parameters, "errors": errors} | more
    return Operation(path=path, method=method, summary=summary, tag="Delivery", gives=gives, **told)  # type: ignore[arg-type]


operations = [
    _operation(
        _PATH,
        "post",
        "A new endpoint; the answer holds the secret that it is signed with",
        messages.WebhookWithSecret,
        takes=messages.WebhookTold,
        errors={**ERRORS, 409: "there are too many"},
    ),
    _operation(_PATH, "get", "All endpoints", messages.WebhookList),
    _operation(_ONE, "get", "One endpoint", messages.ShownWebhook),
    _operation(
        _ONE,
        "patch",
        "Change an endpoint; what waits for one that is disabled goes to the dead list",
        messages.ShownWebhook,
        takes=messages.WebhookChange,
        errors=ERRORS | _NONE,
    ),
    _operation(_ONE, "delete", "Remove an endpoint; what waits for it is cancelled", messages.WebhookRemoved),
    _operation(f"{_ONE}/secret", "get", "The secret that it is signed with", messages.WebhookSecret),
    _operation(
        f"{_ONE}/rotate", "post", "A new secret; the old one signs too for 24 hours", messages.WebhookWithSecret
    ),
    _operation(
        f"{_ONE}/test",
        "post",
        "Send a test (`webhook.test`), once, and tell what came of it",
        messages.WebhookTested,
        later="it has not come to its end yet",
        errors={**_NONE, 409: "the endpoint is disabled"},
    ),
    _operation(
        f"{_ONE}/attempts",
        "get",
        "What was sent to it, and what it answered; latest first",
        AttemptPage,
        parameters=(
            _ID,
            Parameter("limit", f"at most so many; {USUAL_TRIES} unless told, {MOST_TRIES} at most", int),
            Parameter("cursor", "`next` of the page before"),
        ),
        errors={**_NONE, 400: "a parameter that cannot be read; `field` names it"},
    ),
]
