"""Events in, after Segment's HTTP Tracking API: 2xx only once they are on disk.

Plain ASGI, not Starlette's request and response objects: this is the hot path.
"""

from __future__ import annotations

import base64
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Annotated, Any

import msgspec
from starlette.types import Receive, Scope, Send

from flows.resp import StoreError
from flows.store import Clock
from serving import front
from serving.api import Api
from serving.append import Unavailable
from serving.auth import Auth
from serving.body import HUNG_UP, Gone, headers_of, read_json
from serving.errors import JSON, ApiError, located, reply, reply_error, unauthorised, unavailable
from serving.intake import Rejected, Sender, with_field
from serving.messages import (
    BATCH_BYTES,
    BATCH_EVENTS,
    EVENT_BYTES,
    SOMEBODY,
    Alias,
    Batch,
    BatchOfCalls,
    BatchStored,
    Call,
    Group,
    Identify,
    Page,
    RejectedItem,
    Screen,
    Stored,
    Track,
    UnknownEvent,
    batch_decoder,
    call_decoder,
)
from serving.openapi import EVENT_ERRORS, Operation, Parameter
from serving.salvage import split

ROUTES: dict[str, type | None] = {  # path -> what it takes; None: any, in a batch
    "/v1/track": Track,
    "/v1/identify": Identify,
    "/v1/page": Page,
    "/v1/screen": Screen,
    "/v1/group": Group,
    "/v1/alias": Alias,
    "/v1/batch": None,
    "/v1/import": None,
    "/v1/t": Track,  # as analytics.js spells them
    "/v1/i": Identify,
    "/v1/p": Page,
    "/v1/s": Screen,
    "/v1/g": Group,
    "/v1/a": Alias,
    "/v1/b": None,
}
ANY_ORIGIN = (b"access-control-allow-origin", b"*")  # the key, not a cookie, says who asks
PREFLIGHT = (
    (b"access-control-allow-methods", b"POST, OPTIONS"),
    (b"access-control-allow-headers", b"authorization, content-type, content-encoding"),
    (b"access-control-max-age", b"86400"),
)
HISTORY = b"x-telltale-history"
MAX_NEAREST = 20  # unknown names of one answer for which the nearest known one is sought: that takes a while
_STORED = msgspec.json.encode(Stored(success=True))
UNREADABLE = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)


class Envelope(msgspec.Struct):
    """What tells a rejected call apart from the others."""

    type: Any = None
    messageId: Any = None  # noqa: N815 # Segment's name


_envelope = msgspec.json.Decoder(Envelope)
_encode = msgspec.json.Encoder().encode


class Asked(msgspec.Struct, frozen=True):
    """A request as it came; `organisation` is None where its key is not in a header but, maybe, in the body."""

    headers: dict[bytes, bytes]
    organisation: bytes | None
    body: bytes


class Ingest:
    """The doors for events, sharing one appender."""

    def __init__(self, parts: Api) -> None:
        self.appender, self.auth, self.intake, self.clock = parts.appender, parts.auth, parts.intake, parts.store.clock
        self.nearest = lru_cache(10_000)(parts.vocabulary.nearest)

    def door(self, kind: type | None) -> Door:
        answer, most = (self.batch, BATCH_BYTES) if kind is None else (One(self, kind), EVENT_BYTES)
        return Door(self.auth, answer, most)

    async def sender(self, asked: Asked, key: str | None) -> Sender:
        """Who sends, once allowed to. Raises ApiError 400, 401, Unavailable."""
        organisation = asked.organisation
        if organisation is None:
            organisation = await self.auth.organisation(basic(key) if key else b"")
        history = as_history(asked.headers, self.clock)
        return Sender(organisation, time.time_ns() // 1_000_000, self.appender.room(), history=history)

    async def batch(self, asked: Asked) -> bytes:
        """Stores the good calls of a batch, reports the others. Raises ApiError when none is good."""
        batch, calls = unpacked(asked.body)
        sender = await self.sender(asked, batch.writeKey)
        sender = msgspec.structs.replace(sender, sent=batch.sentAt) if batch.sentAt else sender
        unknown: Counter[str] = Counter()
        rejected = self._take_all(calls, sender, unknown)
        if len(rejected) == len(calls):
            raise ApiError(400, "none of the calls could be stored", "batch", rejected=rejected)
        await self.appender.stored(sender.group, len(asked.body))
        return _encode(BatchStored(
            success=True, accepted=len(calls) - len(rejected), rejected=rejected, unknown=self.notes(unknown)
        ))  # fmt: skip

    def _take_all(self, calls: list[bytes], sender: Sender, unknown: Counter[str]) -> list[RejectedItem]:
        rejected = []
        decode, take = call_decoder.decode, self.intake.take
        for index, raw in enumerate(calls):
            try:
                raw.decode()  # what no field of ours looks at must be UTF-8 too
                name = take(decode(raw), raw, sender)
            except (Rejected, *UNREADABLE) as error:
                rejected.append(RejectedItem(index, _message_id(raw), *reason(error)))
                continue
            if name is not None:
                unknown[name] += 1
        return rejected

    def notes(self, unknown: Counter[str]) -> list[UnknownEvent]:
        """Unknown names, most frequent first, with the nearest known one."""
        return [
            UnknownEvent(name[:100], self.nearest(name[:100]) if i < MAX_NEAREST else None, count)
            for i, (name, count) in enumerate(unknown.most_common(BATCH_EVENTS))
        ]


def doors(parts: Api) -> dict[str, front.Door]:
    """Path -> what answers there."""
    ingest = Ingest(parts)
    return {path: front.guarded(ingest.door(kind)) for path, kind in ROUTES.items()}


class One:
    """The door for one call of one kind."""

    def __init__(self, ingest: Ingest, kind: type[Call]) -> None:
        self._ingest, self._decode = ingest, msgspec.json.Decoder(kind).decode
        self._type = str(kind.__struct_config__.tag)

    async def __call__(self, asked: Asked) -> bytes:
        """Stores one call. Raises ApiError 4xx, Unavailable."""
        try:
            asked.body.decode()
            call = self._decode(asked.body)
            raw = self._whole(asked.body, call)
            sender = await self._ingest.sender(asked, call.writeKey)
            unknown = self._ingest.intake.take(call, raw, sender)
        except (Rejected, *UNREADABLE) as error:
            field, detail = reason(error)
            raise ApiError(400, detail, field) from None
        await self._ingest.appender.stored(sender.group, len(raw))
        if unknown is None:
            return _STORED
        return _encode(Stored(success=True, unknown=self._ingest.notes(Counter([unknown]))))

    def _whole(self, body: bytes, call: Call) -> bytes:
        """The JSON to keep: its type told, its write key not."""
        raw = body.strip()
        if call.writeKey is not None:
            kept = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
            raw = _encode({name: value for name, value in kept.items() if name != "writeKey"})
        if b'"type"' not in raw or _envelope.decode(raw).type is None:
            raw = with_field(raw, "type", self._type)
        return raw


Answer = Callable[[Asked], Awaitable[bytes]]


class Door:
    """One path, as ASGI."""

    def __init__(self, auth: Auth, answer: Answer, most: int) -> None:
        self._auth, self._answer, self._most = auth, answer, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> int:
        """Answers, and returns the status."""
        if scope["method"] != "POST":
            return await _not_post(scope["method"], send)
        try:
            body = await self._answer(await self._asked(headers_of(scope), receive))
        except ApiError as error:
            return await reply_error(send, error, ANY_ORIGIN)
        except (Unavailable, StoreError) as error:
            problem = unavailable(f"not stored, as far as we know: {error}", getattr(error, "retry_after", 1))
            return await reply_error(send, problem, ANY_ORIGIN)
        except Gone:
            return HUNG_UP
        return await reply(send, 200, body, JSON, ANY_ORIGIN)

    async def _asked(self, headers: dict[bytes, bytes], receive: Receive) -> Asked:
        header = headers.get(b"authorization")
        organisation = None
        if header is not None:
            organisation = self._auth.remembered(header) or await self._auth.organisation(header)
        body = await read_json(headers, receive, self._most)
        if organisation is None and b"writeKey" not in body:
            raise unauthorised("a write key is needed: send it as the user name of Basic auth")
        return Asked(headers, organisation, body)


async def _not_post(method: str, send: Send) -> int:
    if method == "OPTIONS":
        return await reply(send, 204, b"", JSON, ANY_ORIGIN, *PREFLIGHT)
    error = ApiError(405, f"expected POST, not {method[:20]}", "method", headers=((b"allow", b"POST, OPTIONS"),))
    return await reply_error(send, error, ANY_ORIGIN)


def as_history(headers: dict[bytes, bytes], clock: Clock) -> bool:
    """Whether nothing shall fire. Raises ApiError 400 in a store of the wall clock."""
    history = headers.get(HISTORY) == b"1"
    if history and clock == "wall":
        raise ApiError(400, "only a store created with TELLTALE_CLOCK=log takes history", HISTORY.decode().title())
    return history


def basic(key: str) -> bytes:
    """The Authorization header of a write key that came in the body."""
    return b"Basic " + base64.b64encode(key.encode() + b":")


def unpacked(body: bytes) -> tuple[Batch, list[bytes]]:
    """A batch and the JSON of each of its calls. Raises ApiError."""
    try:
        batch = batch_decoder.decode(body)
        calls = [bytes(raw) for raw in batch.batch]
    except UNREADABLE as error:
        batch, calls = _salvaged(body, error)
    if not calls:
        raise ApiError(400, "expected at least one call", "batch")
    if len(calls) > BATCH_EVENTS:
        raise ApiError(400, f"expected at most {BATCH_EVENTS} calls, got {len(calls)}", "batch")
    return batch, calls


def _salvaged(body: bytes, error: Exception) -> tuple[Batch, list[bytes]]:
    """What can be read of a batch that as a whole cannot."""
    field, detail = reason(error)
    found = None if isinstance(error, msgspec.ValidationError) else split(body)
    if found is None:
        raise ApiError(400, detail, field)
    try:
        return batch_decoder.decode(found[0].decode()), found[1]
    except UNREADABLE as again:
        field, detail = reason(again)
        raise ApiError(400, detail, field) from None


def reason(error: Exception) -> tuple[str, str]:
    """(field, what is wrong with it)."""
    if isinstance(error, Rejected):
        return error.field, error.detail
    if isinstance(error, RecursionError):
        return "body", "nested too deep"
    if isinstance(error, UnicodeDecodeError):
        return "body", f"expected UTF-8: {error.reason} at byte {error.start}"
    return located(error)


def _message_id(raw: bytes) -> str | None:
    try:
        found = _envelope.decode(raw).messageId
    except UNREADABLE:
        return None
    return found[:512] if isinstance(found, str) else None


def _operation(path: str, kind: type | None) -> Operation:
    told = (kind or BatchOfCalls).__doc__ or ""
    return Operation(
        path=path,
        method="post",
        summary=told.splitlines()[0],
        tag="Events in" if path in NAMED else "Events in, as analytics.js spells the paths",
        takes=BatchOfCalls if kind is None else Annotated[kind, SOMEBODY],
        told_by_path="type" if kind else "",
        gives=BatchStored if kind is None else Stored,
        parameters=(
            Parameter(HISTORY.decode().title(), "1: count this, let nothing fire (log clock)", where="header"),
        ),
        errors=EVENT_ERRORS,
    )


NAMED = tuple(path for path in ROUTES if len(path) > len("/v1/t"))
operations = [_operation(path, kind) for path, kind in ROUTES.items()]
