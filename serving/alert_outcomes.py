"""What became of alerts: told once; told otherwise again, it is a correction. One alert, or many at once."""

from __future__ import annotations

from typing import Annotated

import msgspec
import sqlalchemy as sa
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from flows import alert_outcomes
from flows.alert import Judgement, Status
from flows.alert_outcomes import Outcome, Record, Recorded
from serving import alerts, api
from serving.alert_status import BODY_BYTES, MOST, NO_NUL, By, Ids, Words, announce
from serving.errors import ApiError, json_response
from serving.given import ERRORS, given
from serving.intake import HOUR
from serving.openapi import Operation
from serving.query import TOLD_MOMENT, moment

MOST_VALUE = 1e12


class AlertOutcomeTold(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What became of an alert. Who converted did what was predicted: TRUE_POSITIVE (or FALSE_NEGATIVE)."""

    outcome: Annotated[Judgement, Meta(description="Whether the prediction was right")]
    converted: Annotated[bool, Meta(description="It led to the sale, the loan, ...: the alert becomes CONVERTED")] = (
        False
    )
    value: Annotated[
        Annotated[float, Meta(ge=-MOST_VALUE, le=MOST_VALUE)] | None,
        Meta(description="What the conversion was worth, in a unit of yours"),
    ] = None
    type: Annotated[
        Annotated[str, Meta(max_length=200, pattern=NO_NUL)] | None,
        Meta(description="What kind of conversion, in words of yours"),
    ] = None
    at: Annotated[TOLD_MOMENT | None, Meta(description="When they converted: ISO 8601, or ms since 1970")] = None
    feedback: Annotated[Words, Meta(description="What the person said")] = None
    notes: Words = None
    by: By = None


class AlertOutcomesTold(AlertOutcomeTold, forbid_unknown_fields=True, kw_only=True):
    """The same of many alerts."""

    ids: Ids


class AlertOutcomeRecord(msgspec.Struct, kw_only=True):
    """As it was told, by whom, and when (`recorded_at`). `corrects`: the number of the record that it corrects."""

    number: int
    corrects: int | None
    outcome: Judgement
    converted: bool
    value: float | None
    type: str | None
    at: int | None
    feedback: str | None
    notes: str | None
    by: str
    recorded_at: int


class AlertOutcome(msgspec.Struct, kw_only=True):
    """What became of an alert: the record that counts, and those that it corrected, latest first. Times are ms."""

    alert_id: str
    status: Status
    latest: AlertOutcomeRecord
    corrected: list[AlertOutcomeRecord]


class OutcomeResult(msgspec.Struct, kw_only=True):
    """What came of one: `done`, its outcome is as told; otherwise `detail` says why not."""

    id: str
    done: bool
    status: Status | None
    detail: str | None = None


class OutcomeResults(msgspec.Struct, kw_only=True):
    """One for each id, in their order; `recorded`: of how many it is news."""

    recorded: int
    results: list[OutcomeResult]


async def tell(request: Request) -> Response:
    told, alert = await given(request, AlertOutcomeTold, BODY_BYTES), request.path_params["id"]
    (found,) = await _record(request, [alert], told)
    if found.refused:
        raise ApiError(422, found.refused, "at")
    return json_response(_shown(found))


async def tell_many(request: Request) -> Response:
    told = await given(request, AlertOutcomesTold, BODY_BYTES)
    found = await _record(request, told.ids, told)
    return json_response(
        OutcomeResults(recorded=len({f.id for f in found if f.new}), results=[_result(f) for f in found])
    )


async def told(request: Request) -> Response:
    alert, organisation = request.path_params["id"], api.organisation(request)

    def ask(sql: sa.Connection) -> list[Record]:
        return alert_outcomes.of_alert(sql, alert)

    shelf = alerts.of(request).shelf
    found = await shelf.ask(lambda store: store.find(alert, organisation))
    if found is None:
        raise alerts.no_alert(alert)
    records = await shelf.read(ask)
    if not records:
        raise ApiError(404, f"nobody has told the outcome of {alert} yet", "id")
    return json_response(_shown(Recorded(id=alert, records=records, status=found.status)))


async def _record(request: Request, ids: list[str], told: AlertOutcomeTold) -> list[Recorded]:
    organisation, parts = api.organisation(request), api.of(request)
    now = await parts.clock.now_ms(parts.client)
    outcome = _outcome(told, now + HOUR if parts.store.clock == "wall" else None)
    who = told.by or organisation

    def change(sql: sa.Connection) -> list[Recorded]:
        return alert_outcomes.record(sql, ids, outcome, who=who, at=now, organisation=organisation)

    found = await alerts.of(request).shelf.write(change)
    if any(one.moved for one in found):
        await announce(request)
    return found


def _outcome(told: AlertOutcomeTold, latest: int | None) -> Outcome:
    """`latest`: ms after which nothing can have happened yet. Raises ApiError 422."""
    outcome = Outcome(
        outcome=told.outcome,
        converted=told.converted,
        value=told.value,
        type=told.type,
        at=_moment(told.at, latest),
        feedback=told.feedback,
        notes=told.notes,
    )
    if outcome.contradiction:
        field, detail = outcome.contradiction
        raise ApiError(422, detail, field)
    return outcome


def _moment(told: str | int | None, latest: int | None) -> int | None:
    if told is None:
        return None
    try:
        at = moment(str(told))
    except ValueError as error:
        raise ApiError(422, f"{error}, got {str(told)[:100]!r}", "at") from None
    if latest is not None and at > latest:
        raise ApiError(422, "expected a time that has come", "at")
    return at


def _shown(found: Recorded) -> AlertOutcome:
    if not found.records or found.status is None:
        raise alerts.no_alert(found.id)
    first, *others = [_shown_record(record) for record in found.records]
    return AlertOutcome(alert_id=found.id, status=found.status, latest=first, corrected=others)


def _shown_record(record: Record) -> AlertOutcomeRecord:
    values = {name: getattr(record, name) for name in Outcome.__struct_fields__}
    return AlertOutcomeRecord(
        number=record.seq, corrects=record.corrects, by=record.who, recorded_at=record.recorded_at, **values
    )


def _result(found: Recorded) -> OutcomeResult:
    detail = found.refused or (None if found.records else "there is no such alert")
    return OutcomeResult(id=found.id, done=detail is None, status=found.status, detail=detail)


_PATH = "/v1/alerts/{id}/outcome"
routes = [
    Route("/v1/alerts/outcome", tell_many, methods=["POST"]),
    Route(_PATH, tell, methods=["POST"]),
    Route(_PATH, told),
]
operations = [
    Operation(
        path="/v1/alerts/outcome",
        method="post",
        summary=f"Tell the same outcome of up to {MOST:,} alerts, each for itself",
        tag="Alerts",
        takes=AlertOutcomesTold,
        gives=OutcomeResults,
        errors=ERRORS,
    ),
    Operation(
        path=_PATH,
        method="post",
        summary="Tell what became of an alert; told again otherwise, it is a correction",
        tag="Alerts",
        parameters=(alerts.ID,),
        takes=AlertOutcomeTold,
        gives=AlertOutcome,
        errors={404: "no such alert", **ERRORS},
    ),
    Operation(
        path=_PATH,
        summary="What became of an alert, as it was told",
        tag="Alerts",
        parameters=(alerts.ID,),
        gives=AlertOutcome,
        errors={404: "there is no such alert, or nobody has told its outcome"},
    ),
]
