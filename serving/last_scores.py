"""`/v1/scores/{user}`: what the stream last scored, and before. It scores at each event; nothing is computed here."""

from __future__ import annotations

import math
from datetime import datetime
from functools import cached_property
from typing import Annotated, Any

import msgspec
import numpy as np
import redis
from msgspec import Meta
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from feature_repo import keys
from feature_repo.layout import entity_key, timestamp_field
from feature_repo.moments import instant
from feature_repo.training_sets import EVENT_TIMESTAMP
from flows import scored
from flows.lake_read import LakeReader, Window
from flows.resp import pack
from flows.scored import Member
from flows.served import follows
from flows.state import identity
from flows.store import connect
from serving import api
from serving.errors import ApiError, json_response, unavailable
from serving.given import PERSON
from serving.openapi import Operation, Parameter
from serving.query import MOMENT, asked, between, moment, span

USUAL, MOST = 100, 1_000  # rows of history
READERS = {"limit": between(0, MOST), "since": moment}
_PAST = (
    f"SELECT * FROM served WHERE {EVENT_TIMESTAMP} >= make_timestamptz(?) ORDER BY {EVENT_TIMESTAMP} DESC, created DESC"  # noqa: S608
)
_SCORE = "__score"


class StreamScore(msgspec.Struct):
    """What an alert model said of the person's features as of `at`."""

    model: str
    version: str
    at: datetime
    score: Annotated[float, Meta(description="Calibrated probability, 0-1")]
    raw: Annotated[float, Meta(description="Before calibration, 0-1")]
    calibration: Annotated[int, Meta(description="Number of the online calibration; 0: the version's own")] = 0


class StreamScores(msgspec.Struct):
    """The last score of each alert model, highest first; and earlier ones, newest first.

    `followed`: whether the lake keeps this person's history (`TELLTALE_LAKE_FEATURES`).
    """

    user: str
    scores: list[StreamScore]
    history: list[StreamScore]
    followed: bool


class LastScores:
    """Reads the store, and the lake on threads; what it needs is made when it is first asked."""

    def __init__(self, parts: api.Api) -> None:
        self._parts = parts
        vocabulary = parts.vocabulary
        names = scored.names(sum(1 for service in vocabulary.services if service.alert))
        self._fields = [timestamp_field(vocabulary.view), *names]
        self._sets: dict[int, list[Member]] = {}

    @cached_property
    def _client(self) -> redis.Redis:
        return connect(self._parts.settings)

    async def last(self, name: str) -> list[scored.Last]:
        """Of `organisation/user`. Raises ApiError 404 where nothing is known of them."""
        key = entity_key(self._parts.vocabulary.join_key, name.encode(errors="surrogateescape"))
        ((stamp, *fields),) = await self._parts.client.call(pack("HMGET", key, *self._fields))
        if stamp is None:
            raise ApiError(404, f"nothing is known of a user {name.partition('/')[2][:200]!r}", "id")
        for value in filter(None, fields):
            if scored.is_whole(value):
                await self._learn(scored.set_of(value))
        return scored.read(fields, self._sets)

    async def _learn(self, set_: int) -> None:
        if set_ not in self._sets:
            (told,) = await self._parts.client.call(pack("HGET", keys.SCORE_SETS, str(set_)))
            self._sets[set_] = scored.members(told)

    def followed(self, name: str) -> bool:
        uid = np.array([identity(self._parts.store, name.encode(errors="surrogateescape"))], np.uint64)
        return bool(follows(uid, self._parts.settings.lake_features)[0])

    def past(self, name: str, since: int, most: int) -> list[StreamScore]:
        """At most so many, newest first, of those that the lake keeps, and of those that wait for it."""
        parts = self._parts
        lake = LakeReader(parts.settings.lake, parts.vocabulary, parts.store, self._client)
        try:
            found = lake.served(f"{_PAST} LIMIT {most:d}", Window(users=(name,), since=since), [since * 1000])
        except redis.RedisError as error:
            raise unavailable(f"the store is not reachable: {error}") from error
        models = [column.removesuffix(_SCORE) for column in found.column_names if column.endswith(_SCORE)]
        return [score for row in found.to_pylist() for score in _of(row, models)][:most]


def _of(row: dict[str, Any], models: list[str]) -> list[StreamScore]:
    return [
        StreamScore(
            m,
            row[f"{m}__version"],
            row[EVENT_TIMESTAMP],
            row[m + _SCORE],
            row[f"{m}__raw"],
            row.get(f"{m}__calibration") or 0,
        )
        for m in models
        if row[m + _SCORE] is not None
    ]


async def scores(request: Request) -> Response:
    user, given = request.path_params["user"], asked(request, READERS)
    mine: LastScores = request.app.state.last_scores
    name = f"{api.organisation(request)}/{user}"
    last = [StreamScore(s.model, s.version, instant(s.at), s.calibrated, s.raw) for s in await mine.last(name)]
    last = sorted((s for s in last if not math.isnan(s.score)), key=lambda s: -s.score)
    most, followed = given.get("limit", USUAL), mine.followed(name)
    past = await run_in_threadpool(mine.past, name, given.get("since", 0), most) if followed and most else []
    return json_response(StreamScores(user, last, past, followed))


routes = [Route("/v1/scores/{user:path}", scores)]
operations = [
    Operation(
        path="/v1/scores/{id}",
        summary="What the stream last scored of a person, and before",
        tag="Scores",
        gives=StreamScores,
        parameters=(
            PERSON,
            Parameter("limit", f"scores of the history, at most; {USUAL} unless told, 0 to {MOST}", span(0, MOST)),
            Parameter("since", "history from then on: ISO 8601, or ms since 1970", MOMENT),
        ),
        errors={400: "a parameter that cannot be read; `field` names it", 404: "nothing is known of this user"},
    )
]
