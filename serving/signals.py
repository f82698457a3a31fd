"""`/v1/users/{id}/signals`: the signals of one person as the stream has them, with the events that made them."""

from __future__ import annotations

from datetime import datetime
from functools import cached_property
from typing import Annotated

import msgspec
import redis
from msgspec import Meta
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from feature_repo.moments import instant
from flows import evidence
from flows.lake_read import LakeReader
from flows.plan import Plan
from flows.state import UserState, read_user
from flows.store import connect
from serving import api
from serving.errors import ApiError, json_response, unavailable
from serving.given import PERSON
from serving.openapi import Operation, Parameter
from serving.query import asked, between, span

USUAL = 10  # events a signal
MOST = 100
READERS = {"events": between(0, MOST)}


class SignalEvent(msgspec.Struct, rename="camel"):
    """An event that a signal counts. `event`: its name in the vocabulary; `name`: as sent."""

    message_id: str | None
    event: str
    name: str | None
    ts: datetime


class UserSignal(msgspec.Struct):
    """One signal: strength and confidence 0-1, the counts that made it, and its newest events."""

    name: str
    family: str
    strength: float
    confidence: float
    counts: dict[str, float]
    window: str
    description: str
    says: Annotated[str, Meta(description="The person ...")]
    events: list[SignalEvent]


class UserSignals(msgspec.Struct):
    """All signals of a person as of `at`, the log's time."""

    user: str
    at: datetime
    signals: list[UserSignal]


class Signals:
    """Reads states and the lake, on threads; what it needs is made when it is first asked."""

    def __init__(self, parts: api.Api) -> None:
        self._parts = parts

    @cached_property
    def _plan(self) -> Plan:
        return Plan(self._parts.vocabulary)

    @cached_property
    def _client(self) -> redis.Redis:
        return connect(self._parts.settings)

    def read(self, organisation: str, user: str, most: int) -> UserSignals | None:
        """None while nothing is known of the user. Raises StoreError, ApiError 503."""
        name = f"{organisation}/{user}"
        try:
            state = read_user(self._client, self._parts.store, self._plan, name)
            events = self._events(name, state.at, most) if state and most else []
        except redis.RedisError as error:
            raise unavailable(f"the store is not reachable: {error}") from error
        return self._told(user, state, events, most) if state else None

    def _events(self, name: str, at: int, most: int) -> list[evidence.Event]:
        parts = self._parts
        lake = LakeReader(parts.settings.lake, parts.vocabulary, parts.store, self._client)
        return evidence.recent(lake, name, at, most)

    def _told(self, user: str, state: UserState, events: list[evidence.Event], most: int) -> UserSignals:
        vocabulary, told = self._parts.vocabulary, []
        readings = {reading.name: reading for reading in state.signals}
        for s in vocabulary.signals:
            r = readings[s.name]
            made = evidence.made(s, vocabulary, events, state.at)[:most]
            shown = [SignalEvent(e.message_id, e.event, e.name, e.ts) for e in made]
            told.append(
                UserSignal(s.name, s.family, r.strength, r.confidence, r.counts, s.window, s.description, s.says, shown)
            )
        return UserSignals(user, instant(state.at), told)


async def signals(request: Request) -> Response:
    user, most = request.path_params["user"], asked(request, READERS).get("events", USUAL)
    found = await run_in_threadpool(request.app.state.signals.read, api.organisation(request), user, most)
    if found is None:
        raise ApiError(404, f"nothing is known of a user {user[:200]!r}", "id")
    return json_response(found)


routes = [Route("/v1/users/{user:path}/signals", signals)]
operations = [
    Operation(
        path="/v1/users/{id}/signals",
        summary="A person's signals, with the events that made them",
        tag="People",
        gives=UserSignals,
        parameters=(
            PERSON,
            Parameter(
                "events", f"newest events of each signal, at most; {USUAL} unless told, 0 to {MOST}", span(0, MOST)
            ),
        ),
        errors={400: "a parameter that cannot be read", 404: "nothing is known of that user"},
    ),
]
