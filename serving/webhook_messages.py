"""What is asked of `/v1/webhooks`, and what it answers."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from feature_repo.moments import instant
from flows.addresses import MOST_URL
from flows.webhooks import Webhook
from serving.delivery_shown import ShownAttempt

Url = Annotated[str, Meta(min_length=1, max_length=MOST_URL, description="https://, to a public address")]
Description = Annotated[str, Meta(max_length=500)]
Events = Annotated[
    list[Annotated[str, Meta(max_length=100)]],
    Meta(
        max_length=100,
        description="Types of events, or their beginnings up to a full stop; none: all",
        examples=[["alert.opened.likely_to_sell"]],
    ),
]
Secret = Annotated[
    str | None,
    Meta(description="One of yours: `whsec_` and base64 of 24 to 64 bytes; unless told, a new one is made"),
]


class WebhookTold(msgspec.Struct, forbid_unknown_fields=True):
    """A new endpoint."""

    url: Url
    description: Description = ""
    events: Events = []
    enabled: bool = True
    secret: Secret = None


class WebhookChange(msgspec.Struct, forbid_unknown_fields=True):
    """What is to be another; what is not given stays."""

    url: Url | UnsetType = UNSET
    description: Description | UnsetType = UNSET
    events: Events | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET


class ShownWebhook(msgspec.Struct, kw_only=True):
    """An endpoint. `old_secret_until`: until when the secret before the last rotation signs too."""

    id: str
    url: str
    description: str
    events: list[str]
    enabled: bool
    disabled_why: str | None
    created_at: datetime
    updated_at: datetime
    old_secret_until: datetime | None


class WebhookWithSecret(ShownWebhook, kw_only=True):
    """With the secret that it is signed with."""

    secret: str


class WebhookList(msgspec.Struct):
    """All of the organisation's, the first made first."""

    webhooks: list[ShownWebhook]


class WebhookSecret(msgspec.Struct):
    """What the receiver verifies with."""

    id: str
    secret: str


class WebhookRemoved(msgspec.Struct):
    """`cancelled`: how many deliveries waited for it."""

    id: str
    cancelled: int


class WebhookTested(msgspec.Struct):
    """What came of a test; `attempt` is null while it has not ended, `delivery` leads to it."""

    delivery: str
    delivered: bool
    attempt: ShownAttempt | None


def shown(one: Webhook, now_ms: int) -> ShownWebhook:
    return ShownWebhook(**_told(one, now_ms))


def with_secret(one: Webhook, now_ms: int) -> WebhookWithSecret:
    return WebhookWithSecret(**_told(one, now_ms), secret=one.secret)


def _told(one: Webhook, now_ms: int) -> dict[str, Any]:
    return {
        "id": one.id,
        "url": one.url,
        "description": one.description,
        "events": list(one.events),
        "enabled": one.enabled,
        "disabled_why": one.disabled_why,
        "created_at": instant(one.created_at),
        "updated_at": instant(one.updated_at),
        "old_secret_until": instant(one.old_until) if one.old_secret and one.old_until > now_ms else None,
    }
