"""`/v1/alerts/{id}/deliveries`: who was told of an alert, by which way, and what they did about it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
import sqlalchemy as sa
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from feature_repo.moments import instant
from flows import delivery_list, tracking
from flows.delivery_list import Listed, Which
from flows.delivery_state import State
from flows.recipients import PERSONAL, person, recipients
from flows.tracking import Reply, Tracked
from serving import alerts, api
from serving.errors import json_response
from serving.openapi import Operation

MOST = 500  # deliveries shown


class ShownReply(msgspec.Struct):
    """An answer; `text` without what it quotes, `automatic`: nobody wrote it."""

    at: datetime
    sender: str
    text: str
    automatic: bool


class AlertDelivery(msgspec.Struct, kw_only=True):
    """One way that an alert went. Of one that was folded into a digest (`digest`), what became of the digest."""

    id: str
    channel: str
    target: str
    recipient: Annotated[str | None, Meta(description="Who that is; null: no person, or one who was removed")]
    digest: str | None
    state: State
    attempts: int
    last_error: str | None
    created_at: datetime
    delivered_at: datetime | None
    opened_at: Annotated[datetime | None, Meta(description="First by a person, as far as that shows")]
    opens: int
    clicked_at: datetime | None
    clicks: int
    replied_at: datetime | None
    replies: list[ShownReply]
    by_machines: Annotated[int, Meta(description="Opened, followed or answered by what said it was none")]


class AlertDeliveries(msgspec.Struct):
    """All of an alert, the first planned first."""

    deliveries: list[AlertDelivery]


async def listed(request: Request) -> Response:
    alert, organisation, shelf = request.path_params["id"], api.organisation(request), alerts.of(request).shelf
    if await shelf.ask(lambda store: store.find(alert, organisation)) is None:
        raise alerts.no_alert(alert)
    return json_response(AlertDeliveries(await shelf.read(lambda sql: of_alert(sql, organisation, alert))))


def of_alert(sql: sa.Connection, organisation: str, alert: str) -> list[AlertDelivery]:
    found = delivery_list.listed(sql, Which(organisation=organisation, alert=alert), MOST)[::-1]
    digests = {id_: _digest(sql, organisation, id_) for id_ in {one.into_id for one in found if one.into_id}}
    went = [(one, digests.get(one.into_id or "") or one) for one in found]
    ids = [carried.id for _, carried in went]
    tracked, replies = tracking.of_deliveries(sql, ids), tracking.replies_to(sql, ids)
    people = recipients.of_ids(sql, {person(one.target) for one in found if one.channel in PERSONAL})
    names = {one.id: one.name for one in people}
    return [_shown(one, by, names, tracked.get(by.id, Tracked()), replies.get(by.id, [])) for one, by in went]


def _digest(sql: sa.Connection, organisation: str, id_: str) -> Listed | None:
    found = delivery_list.listed(sql, Which(organisation=organisation, id=id_), 1)
    return found[0] if found else None


def _shown(one: Listed, by: Listed, names: dict[str, str], seen: Tracked, replies: list[Reply]) -> AlertDelivery:
    """`by`: the delivery that carried it, which is its own or the digest."""
    return AlertDelivery(
        id=one.id,
        channel=one.channel,
        target=one.target,
        recipient=names.get(person(one.target)),
        digest=one.into_id,
        state=by.state,
        attempts=by.attempts,
        last_error=by.last_error,
        created_at=instant(one.created_at),
        delivered_at=_moment(by.done_at) if by.state == "DONE" else None,
        opened_at=_moment(seen.opened_at),
        opens=seen.opens,
        clicked_at=_moment(seen.clicked_at),
        clicks=seen.clicks,
        replied_at=_moment(seen.replied_at),
        replies=[ShownReply(instant(r.at), r.sender, r.text, r.automatic) for r in replies],
        by_machines=seen.by_machines,
    )


def _moment(ms: int | None) -> datetime | None:
    return None if ms is None else instant(ms)


routes = [Route("/v1/alerts/{id}/deliveries", listed)]
operations = [
    Operation(
        path="/v1/alerts/{id}/deliveries",
        summary="Who was told of an alert, by which way, and whether they opened, followed or answered it",
        tag="Alerts",
        parameters=(alerts.ID,),
        gives=AlertDeliveries,
        errors={404: "no such alert"},
    ),
]
