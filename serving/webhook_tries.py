"""`/v1/webhooks/{id}/test`, `/attempts`: a test through the whole way, and what was sent and answered."""

from __future__ import annotations

import asyncio
import secrets
import time

import sqlalchemy as sa
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from flows import delivery_list, webhooks
from flows.channel import NewDelivery
from flows.delivery import wall_ms
from flows.delivery_list import Attempt, Which
from flows.delivery_rows import put
from flows.webhooks import Webhook
from serving import webhook_messages as messages
from serving.delivery_shown import AttemptPage, page, shown_attempt
from serving.errors import ApiError, json_response
from serving.openapi import Parameter
from serving.query import NUMBER, Reader, asked, between, number, span
from serving.webhooks import ID, NONE, ONE, changed, found, operation, shelf, whose

MOST_TRIES, USUAL_TRIES = 500, 50  # attempts a page
TEST_S, LOOK_S = 17.0, 0.05  # how long the answer to a test may take; between two looks whether it has come
TRIES: dict[str, Reader] = {"limit": between(1, MOST_TRIES), "cursor": number}


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

    sent = await changed(request, change)
    tried = await _awaited(request, sent)
    attempt = shown_attempt(tried) if tried else None
    told = messages.WebhookTested(sent.id, bool(tried and tried.result == "SENT"), attempt)
    return json_response(told, 200 if tried else 202)


async def attempts(request: Request) -> Response:
    told, one = asked(request, TRIES), await found(request)
    limit, before = told.get("limit", USUAL_TRIES), told.get("cursor")
    tried = await shelf(request).read(lambda sql: delivery_list.tried(sql, whose(one), limit + 1, before))
    return json_response(page(tried, limit))


async def _awaited(request: Request, sent: NewDelivery) -> Attempt | None:
    """The attempt, unless it takes too long."""
    which, deadline = Which(id=sent.id), time.monotonic() + TEST_S
    while time.monotonic() < deadline:
        if tried := await shelf(request).read(lambda sql: delivery_list.tried(sql, which, 1)):
            return tried[0]
        await asyncio.sleep(LOOK_S)
    return None


routes = [
    Route(f"{ONE}/test", test, methods=["POST"]),
    Route(f"{ONE}/attempts", attempts),
]
operations = [
    operation(
        f"{ONE}/test",
        "post",
        "Send a test (`webhook.test`), once, and tell what came of it",
        messages.WebhookTested,
        later="it has not come to its end yet",
        errors={**NONE, 409: "the endpoint is disabled"},
    ),
    operation(
        f"{ONE}/attempts",
        "get",
        "What was sent to it, and what it answered; latest first",
        AttemptPage,
        parameters=(
            ID,
            Parameter(
                "limit", f"at most so many; {USUAL_TRIES} unless told, {MOST_TRIES} at most", span(1, MOST_TRIES)
            ),
            Parameter("cursor", "`next` of the page before", NUMBER),
        ),
        errors={**NONE, 400: "a parameter that cannot be read; `field` names it"},
    ),
]
