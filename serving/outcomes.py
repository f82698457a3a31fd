"""`/v1/predictions/{id}/outcome`: what became of a prediction, told once; a correction is another record."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from feature_repo.moments import instant
from flows.outcome_store import Outcome, of_prediction, record
from flows.prediction_id import PredictionId
from serving import api
from serving.alert_feed import Shelf
from serving.body import read_json
from serving.errors import MAX_SHOWN, ApiError, json_response
from serving.given import ERRORS, decoded
from serving.openapi import Operation, Parameter
from serving.query import TOLD_MOMENT, moment

BODY_BYTES = 32 * 1024


class OutcomeTold(msgspec.Struct, forbid_unknown_fields=True):
    """Whether what was predicted came about."""

    outcome: Annotated[int, Meta(ge=0, le=1, description="1: it came about; 0: it did not")]
    value: Annotated[float | None, Meta(description="What it was worth, in a unit of yours")] = None
    at: Annotated[TOLD_MOMENT | None, Meta(description="When: ISO 8601, or ms since 1970")] = None
    notes: Annotated[str, Meta(max_length=2000)] | None = None


class OutcomeRecord(msgspec.Struct):
    """As it was told; `recorded_at` is when."""

    outcome: int
    value: float | None
    at: datetime | None
    notes: str | None
    recorded_at: datetime


class PredictionOutcome(msgspec.Struct):
    """What became of a prediction: the record that counts, and those that it corrected, latest first."""

    prediction_id: str
    model: str
    predicted_at: datetime
    latest: OutcomeRecord
    corrected: list[OutcomeRecord]


async def tell(request: Request) -> Response:
    body = await read_json(dict(request.scope["headers"]), request.receive, BODY_BYTES)
    known, told = _known(request), decoded(body, OutcomeTold)
    new = Outcome(
        prediction_id=request.path_params["id"],
        organisation=api.organisation(request),
        model=known.model,
        predicted_at=known.at,
        outcome=told.outcome,
        value=told.value,
        at=_moment(told.at),
        notes=told.notes,
        recorded_at=time.time_ns() // 1_000_000,
    )
    return json_response(_shown(await _shelf(request).ask(lambda store: record(store.engine, new))))


async def told(request: Request) -> Response:
    _known(request)
    prediction, organisation = request.path_params["id"], api.organisation(request)
    found = await _shelf(request).ask(lambda store: of_prediction(store.engine, prediction, organisation))
    if not found:
        raise ApiError(404, f"nobody has told the outcome of {prediction[:MAX_SHOWN]} yet", "id")
    return json_response(_shown(found))


def _known(request: Request) -> PredictionId:
    """Raises ApiError 404 for an id that this organisation was not given."""
    prediction = request.path_params["id"]
    found = request.app.state.scoring.parts.ids.read(api.organisation(request).encode(), prediction)
    if found is None:
        raise ApiError(404, f"there is no prediction {prediction[:MAX_SHOWN]!r}", "id")
    return found


def _moment(told: str | int | None) -> int | None:
    if told is None:
        return None
    try:
        found = moment(str(told))
        instant(found)  # what comes after the year 9999 has no date
    except (ValueError, OverflowError) as error:
        raise ApiError(422, f"{error}, got {str(told)[:100]!r}", "at") from None
    return found


def _shelf(request: Request) -> Shelf:
    return request.app.state.alerts.shelf


def _shown(found: list[Outcome]) -> PredictionOutcome:
    first, records = found[0], [_record(one) for one in found]
    return PredictionOutcome(first.prediction_id, first.model, instant(first.predicted_at), records[0], records[1:])


def _record(one: Outcome) -> OutcomeRecord:
    return OutcomeRecord(
        one.outcome, one.value, None if one.at is None else instant(one.at), one.notes, instant(one.recorded_at)
    )


_PATH = "/v1/predictions/{id}/outcome"
routes = [Route(_PATH, tell, methods=["POST"]), Route(_PATH, told)]
_ID = Parameter("id", "`prediction_id` of an answer", where="path")
operations = [
    Operation(
        path=_PATH,
        method="post",
        summary="Tell what became of a prediction; told again otherwise, it is a correction",
        tag="Scores",
        parameters=(_ID,),
        takes=OutcomeTold,
        gives=PredictionOutcome,
        errors={
            404: "there is no such prediction",
            **ERRORS,
        },
    ),
    Operation(
        path=_PATH,
        summary="What became of a prediction, as it was told",
        tag="Scores",
        parameters=(_ID,),
        gives=PredictionOutcome,
        errors={404: "there is no such prediction, or nobody has told its outcome"},
    ),
]
