"""`/v1/recipients`: the people whom routing rules tell of alerts, and when they want to be told."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
import sqlalchemy as sa
from msgspec import UNSET, Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from feature_repo.moments import instant
from flows import delivery_list
from flows.channel import NewDelivery
from flows.delivery import wall_ms
from flows.delivery_list import Which
from flows.delivery_rows import put
from flows.letter import check_address
from flows.local_time import Quiet
from flows.recipients import PERSONAL, Pace, Personal, Recipient, recipients
from flows.routing_rules import rules
from serving import alerts
from serving.deliveries import announce
from serving.errors import ApiError, json_response
from serving.kept import Doors, Kind, made_of
from serving.openapi import Operation, Parameter

MOST, MOST_URLS, MOST_CAP = 1_000, 10, 1_000
Minute = Annotated[str, Meta(pattern="^([01][0-9]|2[0-3]):[0-5][0-9]$", examples=["07:30"])]
Urls = Annotated[
    list[Annotated[str, Meta(min_length=1, max_length=1_000)]],
    Meta(max_length=MOST_URLS, description="Of apprise (https://github.com/caronc/apprise), as slack://A/B/C"),
]


class RecipientTold(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Somebody who is told of alerts: by which ways, and when."""

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    email: Annotated[str, Meta(max_length=254)] | None = None
    sms: Urls = []
    chat: Urls = []
    time_zone: Annotated[str, Meta(max_length=64, description="As IANA names it", examples=["Europe/Berlin"])] = "UTC"
    quiet_from: Annotated[Minute | None, Meta(description="Nothing is sent from then on, by their clock")] = None
    quiet_until: Annotated[Minute | None, Meta(description="until then, when what came meanwhile is told")] = None
    daily_cap: Annotated[
        Annotated[int, Meta(ge=1, le=MOST_CAP)] | None,
        Meta(description="Messages a day of theirs, at most; the rest is in the digest of a later day"),
    ] = None
    digest: Annotated[Pace, Meta(description="Each alert at once, or all of an hour or a day together")] = "at_once"
    digest_at: Annotated[Minute, Meta(description="When a day's digest is due, by their clock")] = "08:00"
    unsubscribed: Annotated[list[Personal], Meta(max_length=3, description="Channels that tell them nothing")] = []


class ShownRecipient(RecipientTold, kw_only=True):
    """With `sms` and `chat` masked: their URLs hold secrets."""

    id: str
    created_at: datetime
    updated_at: datetime


class RecipientList(msgspec.Struct):
    """All of the organisation's, the first made first."""

    recipients: list[ShownRecipient]


class RecipientTested(msgspec.Struct):
    """Deliveries of the test, one for each address: `/v1/deliveries/{id}` tells what came of it."""

    deliveries: list[str]


def _made(request: Request, sql: sa.Connection, told: RecipientTold, old: Recipient | None) -> Recipient:
    _check(told, old)
    quiet = None
    if told.quiet_from is not None and told.quiet_until is not None:
        quiet = Quiet(_minute(told.quiet_from), _minute(told.quiet_until))
    return Recipient(
        **made_of(KIND, request, old),
        name=told.name,
        email=told.email,
        sms=tuple(dict.fromkeys(told.sms)),
        chat=tuple(dict.fromkeys(told.chat)),
        time_zone=told.time_zone,
        quiet=quiet,
        daily_cap=told.daily_cap,
        digest=told.digest,
        digest_at=_minute(told.digest_at),
        unsubscribed=tuple(dict.fromkeys(told.unsubscribed)),
    )


def _check(told: RecipientTold, old: Recipient | None) -> None:
    """Raises ApiError 422, which names the field."""
    try:
        field = "email"
        if told.email is not None:
            check_address(told.email)
        for field in ("sms", "chat"):
            known = getattr(old, field, ())
            _check_urls([url for url in getattr(told, field) if url not in known])
        field = "time_zone"
        _check_zone(told.time_zone)
        field = "quiet_until"
        _check_quiet(told)
    except ValueError as error:
        raise ApiError(422, str(error), field) from None


def _prepare(told: Any) -> None:
    """Loads apprise and the services that are named, which may take a second the first time."""
    for urls in (told.sms, told.chat):
        if urls is not UNSET:
            with suppress(ValueError):
                _check_urls(urls)


def _check_urls(urls: Sequence[str]) -> None:
    from flows.apprise_channel import made

    for url in urls:
        made(url)


def _check_zone(name: str) -> None:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"expected a time zone as IANA names it (Europe/Berlin), got {name!r}") from None


def _check_quiet(told: RecipientTold) -> None:
    if told.quiet_from is None and told.quiet_until is None:
        return
    if told.quiet_from is None or told.quiet_until in {None, told.quiet_from}:
        raise ValueError("expected `quiet_from` and another `quiet_until`, or neither")


def _told(one: Recipient) -> RecipientTold:
    return RecipientTold(**_plain(one), sms=list(one.sms), chat=list(one.chat))


def shown(one: Recipient) -> ShownRecipient:
    from flows.apprise_channel import masked

    return ShownRecipient(
        **_plain(one),
        sms=[masked(url) for url in one.sms],
        chat=[masked(url) for url in one.chat],
        id=one.id,
        created_at=instant(one.created_at),
        updated_at=instant(one.updated_at),
    )


def _plain(one: Recipient) -> dict[str, Any]:
    return {
        "name": one.name,
        "email": one.email,
        "time_zone": one.time_zone,
        "quiet_from": _clock(one.quiet.start) if one.quiet else None,
        "quiet_until": _clock(one.quiet.until) if one.quiet else None,
        "daily_cap": one.daily_cap,
        "digest": one.digest,
        "digest_at": _clock(one.digest_at),
        "unsubscribed": list(one.unsubscribed),
    }


def _minute(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def _leaves(sql: sa.Connection, one: Recipient) -> None:
    """What waits for them is cancelled. Raises ApiError 409 while a rule names them."""
    naming = [rule.id for rule in rules.all(sql, one.organisation) if one.id in {to.target for to in rule.to}]
    if naming:
        raise ApiError(409, f"these routing rules name them: {', '.join(naming)}; change those first", "id")
    for channel in PERSONAL:
        for target in one.targets(channel):
            which = Which(organisation=one.organisation, channel=channel, target=target)
            delivery_list.cancel(sql, which, "the recipient was removed", wall_ms())


async def test(request: Request) -> Response:
    """By each of their addresses, through the outbox, tried once."""

    def change(sql: sa.Connection) -> list[str]:
        whom, sent = doors.found(request, sql), []
        for channel in PERSONAL:
            for target in whom.targets(channel) if channel not in whom.unsubscribed else ():
                new = NewDelivery(
                    organisation=whom.organisation,
                    channel=channel,
                    target=target,
                    of=f"test {secrets.token_hex(12)}",
                    body=None,
                    tries=1,
                    through_quiet=True,  # somebody waits for it
                )
                put(sql, new, wall_ms())
                sent.append(new.id)
        return sent

    sent = await alerts.of(request).shelf.write(change)
    if not sent:
        raise ApiError(409, "there is no address by which they may be told", "id")
    await announce(request)
    return json_response(RecipientTested(sent), 202)


KIND: Kind[Recipient] = Kind(
    path="/v1/recipients",
    noun="recipient",
    prefix="rc",
    most=MOST,
    kept=recipients,
    takes=RecipientTold,
    shows=ShownRecipient,
    lists=RecipientList,
    made=_made,
    told=_told,
    shown=shown,
    leaves=_leaves,
    prepare=_prepare,
)
doors = Doors(KIND)
routes = [*doors.routes, Route("/v1/recipients/{id}/test", test, methods=["POST"])]
operations = [
    *doors.operations,
    Operation(
        path="/v1/recipients/{id}/test",
        method="post",
        summary="Send a test by each of their addresses",
        tag="Delivery",
        parameters=(Parameter("id", "the recipient's id", where="path"),),
        gives=RecipientTested,
        later="the tests are on their way",
        errors={404: "no such recipient", 409: "they have no address, or have unsubscribed"},
    ),
]
