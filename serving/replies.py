"""`/v1/replies`: answers to our mails, as a mail server or a mail service hands them on."""

from __future__ import annotations

import hashlib
from typing import Annotated

import msgspec
import sqlalchemy as sa
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from flows import delivery_list, reply_mail, tracking
from flows.delivery import wall_ms
from flows.delivery_list import Which
from flows.reply_mail import Answer
from flows.tracking import Reply
from serving import alerts, api
from serving.body import headers_of, read_body
from serving.errors import ApiError, json_response
from serving.given import decoded
from serving.openapi import Operation
from serving.tracking import links_of

BODY_BYTES = 10 << 20  # as large as mails are with what is attached to them
RFC822 = b"message/rfc822"


class ReplyTold(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """An answer to a mail, taken apart. `to`: every address that it went to."""

    to: Annotated[list[Annotated[str, Meta(max_length=1_000)]], Meta(max_length=100)] = []
    sender: Annotated[str, Meta(max_length=254)] = ""
    text: str = ""
    message_id: Annotated[str, Meta(max_length=255)] = ""
    in_reply_to: str = ""
    references: str = ""
    automatic: bool = False


class ReplyTaken(msgspec.Struct):
    """Which delivery it answers, and the alert of that (null: a digest). `new`: it was not known yet."""

    delivery: str
    alert: str | None
    automatic: bool
    new: bool


async def take(request: Request) -> Response:
    answer = await _answer(request)
    organisation = api.organisation(request)

    def change(sql: sa.Connection) -> ReplyTaken | None:
        which = Which(organisation=organisation, id=answer.delivery) if answer else None
        found = delivery_list.listed(sql, which, 1) if which else []
        if answer is None or not found:
            return None
        new = tracking.answer(sql, answer.delivery, answer.reply)
        return ReplyTaken(answer.delivery, found[0].alert_id, answer.reply.automatic, new)

    taken = await alerts.of(request).shelf.write(change)
    if taken is None:
        raise ApiError(404, "it answers no message of ours: neither by its address nor by the ids it names", "to")
    return json_response(taken)


async def _answer(request: Request) -> Answer | None:
    headers, links = headers_of(request.scope), await links_of(request)
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind not in {RFC822, b"application/json"}:
        raise ApiError(415, "expected message/rfc822 or application/json", "Content-Type")
    body = await read_body(headers, request.receive, BODY_BYTES)
    if kind == RFC822:
        return reply_mail.read(body, links, wall_ms())
    told = decoded(body, ReplyTold)
    delivery = reply_mail.answered(links, told.to, f"{told.references} {told.in_reply_to}")
    own = told.message_id or hashlib.blake2b(body, digest_size=16).hexdigest()
    text = reply_mail.own_words(told.text)
    reply = Reply(message_id=own, at=wall_ms(), sender=told.sender, text=text, automatic=told.automatic)
    return Answer(delivery, reply) if delivery else None


routes = [Route("/v1/replies", take, methods=["POST"])]
operations = [
    Operation(
        path="/v1/replies",
        method="post",
        summary="An answer to a mail, whole (message/rfc822) or taken apart",
        tag="Delivery",
        takes=ReplyTold,
        gives=ReplyTaken,
        errors={
            404: "it answers no message of this organisation",
            413: "too large",
            415: "another type or compression of content",
            422: "what cannot be read; `field` names it",
        },
    ),
]
