"""Deliveries and attempts as the API shows them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from feature_repo.moments import instant
from flows.delivery_list import Attempt, Listed
from flows.delivery_state import State


class ShownDelivery(msgspec.Struct):
    """One alert (or digest, or test) on its way to one target."""

    id: str
    channel: str
    target: str
    alert: Annotated[str | None, Meta(description="The alert's id; null of a digest, or a test")]
    digest: Annotated[str | None, Meta(description="Of FOLDED: the delivery that it is folded into")]
    state: State
    attempts: int
    due_at: Annotated[
        datetime | None, Meta(description="Of WAITING: when it is tried (again), if nothing holds it back")
    ]
    last_error: str | None
    created_at: datetime
    done_at: Annotated[datetime | None, Meta(description="When it ended, well or not")]


class ShownAttempt(msgspec.Struct):
    """One try: `result` is SENT, RETRY, DEAD or GONE; `said`: what was answered, or went wrong."""

    delivery: str
    attempt: int
    at: datetime
    took_ms: int
    result: str
    said: str


class AttemptPage(msgspec.Struct):
    """Attempts, latest first. `next`: cursor of the next page; null on the last."""

    attempts: list[ShownAttempt]
    next: str | None


def shown(one: Listed) -> ShownDelivery:
    return ShownDelivery(
        id=one.id,
        channel=one.channel,
        target=one.target,
        alert=one.alert_id,
        digest=one.into_id,
        state=one.state,
        attempts=one.attempts,
        due_at=instant(one.due_at) if one.state == "WAITING" else None,
        last_error=one.last_error,
        created_at=instant(one.created_at),
        done_at=None if one.done_at is None else instant(one.done_at),
    )


def shown_attempt(one: Attempt) -> ShownAttempt:
    return ShownAttempt(one.delivery_id, one.attempt, instant(one.at), one.took_ms, one.result, one.said)


def page(found: list[Attempt], limit: int) -> AttemptPage:
    """Of one more than the limit."""
    more = str(found[limit - 1].seq) if len(found) > limit else None
    return AttemptPage([shown_attempt(one) for one in found[:limit]], more)
