"""`GET /v1/learning`: what the outcomes have taught so far, and what was not learned."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from feature_repo import keys
from flows import learning_figures
from flows.learning_figures import Compared, Reported, SetAside
from flows.resp import pack
from serving import alerts, api
from serving.errors import json_response
from serving.openapi import Operation


class LearningAlarm(msgspec.Struct):
    """A change of a model's errors, or a flood of outcomes of one kind: when it was first and last seen.

    `before`, `after`: the mean error (label - probability) on either side, which tell its size.
    """

    learner: str
    model: str
    by: list[str]
    first: datetime
    last: datetime
    before: float
    after: float


class Learned(msgspec.Struct, kw_only=True):
    """Labels `learned` since the database was created, of them `corrections`; scores that are `open`: no label yet.

    `waiting`: outcomes whose prediction the lake does not have yet. `alive_at`: when the process last spoke; null:
    never. `withheld`: what became of this organisation's alerts that nobody was told of, beside the others. `learners`:
    this organisation's and those of all, each with its own figures, as of some seconds ago.
    """

    alive_at: datetime | None
    learned: int
    corrections: int
    open: int
    waiting: int
    set_aside: list[SetAside]
    withheld: list[Compared]
    alarms: list[LearningAlarm]
    learners: list[Reported]


async def now(request: Request) -> Response:
    organisation = api.organisation(request)

    def ask(sql: sa.Connection) -> tuple[list[SetAside], list[Compared], list[Reported]]:
        return (
            learning_figures.set_aside(sql),
            learning_figures.compared(sql, organisation),
            learning_figures.reported(sql, organisation),
        )

    (told,) = await api.of(request).client.call(pack("HGETALL", keys.LEARNING))
    said = {name.decode(): float(value) for name, value in zip(told[::2], told[1::2], strict=True)}
    set_aside, withheld, learners = await alerts.of(request).shelf.read(ask)
    return json_response(
        Learned(
            alive_at=datetime.fromtimestamp(said["alive_at"], UTC) if "alive_at" in said else None,
            learned=int(said.get("learned", 0)),
            corrections=int(said.get("corrected", 0)),
            open=int(said.get("open", 0)),
            waiting=int(said.get("waiting", 0)),
            set_aside=set_aside,
            withheld=withheld,
            alarms=[alarm for one in learners for alarm in _alarms(one)],
            learners=learners,
        )
    )


def _alarms(one: Reported) -> list[LearningAlarm]:
    told: list[dict[str, Any]] = one.report.get("alarms") or []
    return [
        LearningAlarm(
            one.learner,
            one.model,
            alarm["by"],
            datetime.fromtimestamp(alarm["first"] / 1000, UTC),
            datetime.fromtimestamp(alarm["last"] / 1000, UTC),
            alarm["before"],
            alarm["after"],
        )
        for alarm in told
    ]


routes = [Route("/v1/learning", now)]
operations = [
    Operation(
        path="/v1/learning",
        summary="What outcomes have taught: online learners, alarms, and what was not learned",
        tag="Models",
        gives=Learned,
    )
]
