"""Where alerts go when nobody has said otherwise: into the app, and to every webhook that wants them."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from flows import webhooks
from flows.alert_store import Stored
from flows.channel import NewDelivery, Parcel

IN_APP = "in_app"


class Everywhere:
    """A plan without rules."""

    def deliveries(self, connection: sa.Connection, stored: Sequence[Stored], now_ms: int) -> list[NewDelivery]:
        endpoints = webhooks.enabled(connection, sorted({one.alert.organisation for one in stored}))
        return [delivery for one in stored for delivery in (in_app(one), *to_webhooks(one, endpoints))]

    def body(self, connection: sa.Connection, parcel: Parcel) -> bytes:
        raise ValueError(f"expected a delivery with a body, got {parcel.id} without: nothing is folded here")


def in_app(one: Stored) -> NewDelivery:
    """The live feed and the page have it as soon as this is written."""
    alert = one.alert
    return NewDelivery(
        organisation=alert.organisation, channel=IN_APP, target="", of=alert.id, alert=alert.id, done=True
    )


def to_webhooks(one: Stored, endpoints: Sequence[webhooks.Webhook]) -> list[NewDelivery]:
    """To those of its organisation that were there when it was stored, and want its type."""
    alert, body = one.alert, webhooks.body_of(one.alert)
    return [
        NewDelivery(
            organisation=alert.organisation,
            channel=webhooks.NAME,
            target=endpoint.id,
            of=alert.id,
            alert=alert.id,
            body=body,
        )
        for endpoint in endpoints
        if endpoint.organisation == alert.organisation
        and endpoint.after_seq < one.seq
        and endpoint.wants(webhooks.event_of(alert.type))
    ]
