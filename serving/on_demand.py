"""Scores when asked: `/v1/score-user` of what stands, `/v1/process-signals` once the engine has looked at a person."""

from __future__ import annotations

import secrets
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from feature_repo import keys
from feature_repo.vocabulary import PUSHED
from flows import alert, push
from flows.alert import Alert
from flows.alert_store import Filter
from flows.partition import entry_id
from flows.push import Push
from flows.resp import pack
from flows.state import identity
from serving import alerts, api, users
from serving.alert_shown import ShownAlert
from serving.append import Part, Unavailable
from serving.applied import Applied
from serving.errors import ApiError, json_response, unavailable
from serving.given import ERRORS, given
from serving.messages import ANY_ID, UserScores
from serving.openapi import Operation
from serving.pushed import PATIENCE
from serving.signals import UserSignal

BODY_BYTES = 8 * 1024
MOST = 100  # alerts told, and alerts under way that are looked through at a time


class PersonAsked(msgspec.Struct, forbid_unknown_fields=True):
    """Of whom; `anon:` and the anonymousId for somebody not yet known by name."""

    userId: Annotated[str | int, Meta(description="The userId", extra_json_schema=ANY_ID)]  # noqa: N815  # Segment's name


class Processed(UserScores):
    """A person as the engine has them after it looked (202: before, it takes longer than a second).

    `alerts`: those that opened by it.
    """

    signals: list[UserSignal]
    alerts: list[ShownAlert]


class Looks:
    """Asks the engine to look at a person: an entry in their partition, as a push is, that tells nothing new."""

    def __init__(self, parts: api.Api) -> None:
        self._parts, self._applied = parts, Applied(parts.client, parts.store.partitions)

    async def look(self, organisation: str, user: str) -> tuple[int, bool]:
        """The log's time of the entry (ms), and whether the engine worked it within a second. Raises ApiError 503."""
        parts = self._parts
        name = f"{organisation}/{user}".encode()
        uid, now = identity(parts.store, name), await self._now()
        partition = uid % parts.store.partitions
        told = Push(parts.vocabulary.view, user, push.moment(now * 1000), {})
        raw = push.encode(told)
        try:
            group = parts.appender.room()
            group.draft(partition, history=False).add(uid, name, secrets.randbits(63) | 1, now, PUSHED, 0, raw)
            await parts.appender.stored(group, len(raw))
        except Unavailable as error:
            raise unavailable(f"not stored, as far as we know: {error}") from error
        entry = group.ids[Part(partition, history=False)]
        return entry_id(entry).ms, await self._applied.passed({partition: entry}, PATIENCE)

    async def _now(self) -> int:
        return await self._parts.clock.now_ms(self._parts.client)


async def score_user(request: Request) -> Response:
    user = await _asked(request)
    known = await users.read(api.of(request), api.organisation(request), user)
    scored, refused = await run_in_threadpool(request.app.state.scorer.score, known)
    return json_response(UserScores(user, known.at, scored, refused))


async def process_signals(request: Request) -> Response:
    user, parts, organisation = await _asked(request), api.of(request), api.organisation(request)
    await users.read(parts, organisation, user)  # of nobody there is nothing to look at
    at, worked = await request.app.state.looks.look(organisation, user)
    known = await users.read(parts, organisation, user)
    scored, refused = await run_in_threadpool(request.app.state.scorer.score, known)
    signals = await run_in_threadpool(request.app.state.signals.read, organisation, user, 0)
    opened = await _opened(request, organisation, user, at) if worked else []
    found = Processed(user, known.at, scored, refused, signals.signals if signals else [], opened)
    return json_response(found, 200 if worked else 202)


async def _asked(request: Request) -> str:
    """Raises ApiError 422."""
    asked = await given(request, PersonAsked, BODY_BYTES)
    if asked.userId == "":
        raise ApiError(422, "expected a userId", "userId")
    return str(asked.userId)


async def _opened(request: Request, organisation: str, user: str, since: int) -> list[ShownAlert]:
    """What opened since then: on its way to SQL, or there. An alert leaves the stream only once it is in SQL."""
    mine, client = alerts.of(request), api.of(request).client
    (waiting,) = await client.call(pack("XREVRANGE", keys.ALERTS, "+", "-", "COUNT", MOST))
    found = {one.id: one for one in map(_read, waiting) if one and _is(one, organisation, user, since)}
    only = Filter(organisation=organisation, user=user, since=since, withheld=False)
    stored = await mine.shelf.ask(lambda store: store.newest(only, MOST))
    found |= {one.alert.id: one.alert for one in stored}
    return [mine.show(one) for one in sorted(found.values(), key=lambda one: -one.score)]


def _read(entry: Any) -> Alert | None:
    fields = dict(zip(entry[1][::2], entry[1][1::2], strict=True))
    try:
        return alert.decode(fields.get(b"a", b""))
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None  # the drain sets it aside


def _is(one: Alert, organisation: str, user: str, since: int) -> bool:
    return (one.organisation, one.user) == (organisation, user) and one.scored_at >= since and not one.withheld


routes = [
    Route("/v1/score-user", score_user, methods=["POST"]),
    Route("/v1/process-signals", process_signals, methods=["POST"]),
]
_ERRORS = {404: "nothing is known of this user", **ERRORS}
operations = [
    Operation(
        path="/v1/score-user",
        method="post",
        summary="What each alert model says of a person now, why, and what to do; opens no alert",
        tag="Scores",
        takes=PersonAsked,
        gives=UserScores,
        errors=_ERRORS,
    ),
    Operation(
        path="/v1/process-signals",
        method="post",
        summary="Let the engine look at a person now: signals, scores, and the alerts that opened",
        tag="Scores",
        takes=PersonAsked,
        gives=Processed,
        later="the engine takes longer than a second: what stands, and alerts follow",
        errors=_ERRORS,
    ),
]
