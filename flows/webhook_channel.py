"""Sends to webhooks: signed, with the schedule of Standard Webhooks 1.0."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version

import sqlalchemy as sa

from flows import webhooks
from flows.addresses import RefusedError
from flows.channel import Gone, Parcel, Result, Retry, Sent
from flows.delivery import wall_ms
from flows.web import Answer, Unreached, Web
from flows.webhooks import Webhook

HOUR = 3600.0
AGENT = f"Telltale/{version('telltale')}"


class WebhookChannel:
    """`clock`: ms since 1970, for the header `webhook-timestamp` and for rotated secrets."""

    name = webhooks.NAME
    schedule: tuple[float, ...] = (5.0, 300.0, 1800.0, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR)
    timeout_s = 15.0
    at_once = 8
    most = 300

    def __init__(self, web: Web, clock: Callable[[], int] = wall_ms) -> None:
        self._web, self._clock = web, clock

    def targets(self, connection: sa.Connection, ids: Sequence[str]) -> Mapping[str, Webhook]:
        return webhooks.of_ids(connection, ids)

    def disable(self, connection: sa.Connection, target: str, gone: Gone, at: int) -> bool:
        return webhooks.disable(connection, target, gone.address, gone.why, at)

    async def send(self, parcel: Parcel, to: Webhook) -> Result:
        try:
            answer = await self._web.send("POST", to.url, parcel.body, self._headers(parcel, to))
        except RefusedError as error:
            return Retry(f"refused: {error}")  # a name may resolve to something else tomorrow
        except Unreached as error:
            return Retry(str(error))
        came = result(answer)
        return Gone(came.why, to.url) if isinstance(came, Gone) else came

    def _headers(self, parcel: Parcel, to: Webhook) -> dict[str, str]:
        now = self._clock()
        id_ = message_id(parcel)
        return {
            "Content-Type": "application/json",
            "User-Agent": AGENT,
            "webhook-id": id_,
            "webhook-timestamp": str(now // 1000),
            "webhook-signature": webhooks.signatures(id_, now // 1000, parcel.body, to.secrets(now)),
        }


def message_id(parcel: Parcel) -> str:
    """Of what it tells, so that it is the same over retries, and at each endpoint that is told the same."""
    return f"msg_{parcel.alerts[0]}" if len(parcel.alerts) == 1 else f"msg_{parcel.id}"


def result(answer: Answer) -> Result:
    """As the specification reads a status; a redirect is a failure like any other."""
    said = f"{answer.status} {answer.said}".strip()
    if answer.good:
        return Sent(said)
    if answer.status == 410:
        return Gone(f"it answered 410 Gone: {said}")
    return Retry(f"answered {said}", answer.after_s)
