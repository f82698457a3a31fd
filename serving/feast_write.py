"""Features in from outside, after Feast's feature server: `/push` and `/write-to-online-store`.

A row goes into the log and, in the same transaction, into its view's hash. A person's row is an event of theirs, which
the engine works: what a field tells as a trait moves features, and the person is scored again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from starlette.types import Receive, Scope, Send

from flows.resp import StoreError
from serving import frame, front
from serving.api import Api
from serving.append import Unavailable
from serving.body import HUNG_UP, Gone, headers_of, read_json
from serving.errors import JSON, ApiError, reply, reply_error, unavailable
from serving.ingest import HISTORY, UNREADABLE, as_history, reason
from serving.openapi import EVENT_ERRORS, Operation, Parameter
from serving.pushed import Pusher, Rows, Target

BYTES = 8 << 20  # of a request
_EXAMPLE = {
    "user_id": ["ada"],
    frame.TIMESTAMP: ["2026-03-02T10:00:00Z"],
    "home_value": [410_000.0],
    "credit_enquiries_90d": [2],
}
Df = Annotated[
    dict[str, Any],
    Meta(
        description=f"Columns: the join key, `{frame.TIMESTAMP}` (ISO 8601), each feature of the view",
        extra_json_schema={"additionalProperties": {"type": ["array", "object"]}},
        examples=[_EXAMPLE],
    ),
]


class Asked(msgspec.Struct, kw_only=True):
    """What both doors take."""

    df: Df
    allow_registry_cache: Annotated[bool, Meta(description="Taken, and of no effect")] = True
    transform_on_write: Annotated[bool, Meta(description="Taken, and of no effect")] = True


class PushRequest(Asked, kw_only=True):
    """Rows for the view behind a push source."""

    push_source_name: Annotated[str, Meta(examples=["user_finances_push"])]
    to: Annotated[
        Literal["online", "offline", "online_and_offline"],
        Meta(description="offline: for the lake alone. The lake keeps every row"),
    ] = "online"


class WriteRequest(Asked, kw_only=True):
    """Rows for a view."""

    feature_view_name: Annotated[str, Meta(examples=["user_finances"])]


class Writing:
    """What the writing doors share."""

    def __init__(self, parts: Api) -> None:
        self.auth, self.clock, self.pusher = parts.auth, parts.store.clock, Pusher(parts)
        targets = [Target(parts.vocabulary, view) for view in parts.vocabulary.external]
        self.views = {t.view.name: t for t in targets}
        self.sources = {t.view.push_source: t for t in targets}
        self.own = parts.vocabulary.views[parts.vocabulary.view]


class Answer(msgspec.Struct, frozen=True):
    """What a door takes, and what it says when all went well. `field`: which names the view."""

    takes: Callable[[bytes], Asked]
    field: str
    targets: dict[str, Target]
    own: str
    body: bytes
    late: int  # status while the engine has not worked the rows yet

    def rows(self, organisation: bytes, body: bytes, history: bool) -> Rows:
        """Raises ApiError."""
        try:
            body.decode()
            asked = self.takes(body)
        except UNREADABLE as error:
            field, detail = reason(error)
            raise ApiError(400, detail, field) from None
        target = self._target(getattr(asked, self.field))
        found = frame.read(asked.df, target.view, target.entity)
        online = getattr(asked, "to", "online") != "offline"
        return Rows(organisation, target, found, "online" if online else "offline", history)

    def _target(self, name: str) -> Target:
        if name == self.own:
            raise ApiError(409, f"{name} is written by the stream alone", self.field)
        if name not in self.targets:
            raise ApiError(404, f"expected one of {', '.join(self.targets)}, got {name[:100]!r}", self.field)
        return self.targets[name]


class Door:
    """One path, as ASGI."""

    def __init__(self, writing: Writing, answer: Answer) -> None:
        self._writing, self._answer = writing, answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> int:
        """Answers, and returns the status."""
        try:
            status = await self._written(scope, receive)
        except ApiError as error:
            return await reply_error(send, error)
        except (Unavailable, StoreError) as error:
            return await reply_error(send, unavailable(f"not stored, as far as we know: {error}"))
        except Gone:
            return HUNG_UP
        return await reply(send, status, self._answer.body, JSON)

    async def _written(self, scope: Scope, receive: Receive) -> int:
        if scope["method"] != "POST":
            raise ApiError(405, f"expected POST, not {scope['method'][:20]}", "method", headers=((b"allow", b"POST"),))
        headers = headers_of(scope)
        organisation = await self._writing.auth.organisation(headers.get(b"authorization", b""))
        history = as_history(headers, self._writing.clock)
        body = await read_json(headers, receive, BYTES)
        worked = await self._writing.pusher.push(self._answer.rows(organisation, body, history))
        return 200 if worked else self._answer.late


def doors(parts: Api) -> dict[str, front.Door]:
    """Path -> what answers there."""
    writing = Writing(parts)
    push = Answer(_push, "push_source_name", writing.sources, writing.own.push_source, b"", 202)
    # 200 at once stored and readable, since Feast's remote store takes any other answer for a failure
    write = Answer(_write, "feature_view_name", writing.views, writing.own.name, b"null", 200)
    return {"/push": front.guarded(Door(writing, push)), "/write-to-online-store": front.guarded(Door(writing, write))}


_push = msgspec.json.Decoder(PushRequest).decode
_write = msgspec.json.Decoder(WriteRequest).decode
_ERRORS = {
    **EVENT_ERRORS,
    400: "rows that cannot be read; `field` names what is wrong",
    404: "no such push source or view",
    409: "the stream alone writes this view",
}
_HISTORY = (Parameter(HISTORY.decode().title(), "1: write this, let nothing fire (log clock)", where="header"),)
operations = [
    Operation(
        path="/push",
        method="post",
        summary="Features from outside, by push source. Rows not newer than what stands are passed over",
        tag="Features, as Feast's server has them",
        takes=PushRequest,
        media="",
        parameters=_HISTORY,
        later="stored and readable; people are scored again as soon as the engine comes to it",
        errors=_ERRORS,
    ),
    Operation(
        path="/write-to-online-store",
        method="post",
        summary="The same by view",
        tag="Features, as Feast's server has them",
        takes=WriteRequest,
        gives=type(None),
        parameters=_HISTORY,
        errors=_ERRORS,
    ),
]
