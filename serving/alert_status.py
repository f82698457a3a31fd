"""Where alerts stand: moved one by one or many at once, along the allowed steps alone; and who moved them."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Annotated

import msgspec
import sqlalchemy as sa
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from feature_repo import keys
from flows import alert_status
from flows.alert import Status
from flows.alert_status import MOST_WHO, Moved, Step
from flows.resp import StoreError, pack
from serving import alerts, api
from serving.alert_shown import ShownAlert, ShownStep, shown_step
from serving.errors import ApiError, json_response
from serving.given import ERRORS, given
from serving.openapi import Operation

BODY_BYTES = 256 * 1024
MOST = 1_000  # alerts at once
NO_NUL = r"^[^\x00]*$"  # PostgreSQL keeps none in a text
By = Annotated[
    Annotated[str, Meta(min_length=1, max_length=MOST_WHO, pattern=NO_NUL)] | None,
    Meta(description="Who does it; unless told, the organisation of the key"),
]
Words = Annotated[str, Meta(max_length=2_000, pattern=NO_NUL)] | None
Ids = Annotated[list[Annotated[str, Meta(max_length=200, pattern=NO_NUL)]], Meta(min_length=1, max_length=MOST)]


class StatusTold(msgspec.Struct, forbid_unknown_fields=True):
    """Where an alert is to go, by whom and why."""

    status: Status
    by: By = None
    why: Words = None


class StatusesTold(msgspec.Struct, forbid_unknown_fields=True):
    """Where alerts are to go, by whom and why."""

    ids: Ids
    status: Status
    by: By = None
    why: Words = None


class StatusResult(msgspec.Struct):
    """What came of one: `done`, it stands there now; otherwise `detail` says why not."""

    id: str
    done: bool
    status: Annotated[Status | None, Meta(description="Where it stands; null: there is no such alert")]
    detail: str | None = None


class StatusResults(msgspec.Struct):
    """One for each id, in their order; `moved`: how many took the step now."""

    moved: int
    results: list[StatusResult]


class AlertHistory(msgspec.Struct):
    """Every step of an alert, first to last."""

    id: str
    steps: list[ShownStep]


async def move_one(request: Request) -> Response:
    told, alert = await given(request, StatusTold, BODY_BYTES), request.path_params["id"]
    (moved,) = await moved_to(request, [alert], told.status, told.by, told.why)
    if moved.status is None:
        raise alerts.no_alert(alert)
    if not moved.done:
        raise ApiError(409, stands(moved), "status")
    organisation, mine = api.organisation(request), alerts.of(request)
    found = await mine.shelf.ask(lambda store: store.find(alert, organisation))
    if found is None:
        raise alerts.no_alert(alert)
    return json_response(mine.show(found))


async def move_many(request: Request) -> Response:
    told = await given(request, StatusesTold, BODY_BYTES)
    moved = await moved_to(request, told.ids, told.status, told.by, told.why)
    results = [StatusResult(m.id, m.done, m.status, None if m.done else stands(m)) for m in moved]
    return json_response(StatusResults(len({m.id for m in moved if m.new}), results))


async def history(request: Request) -> Response:
    alert, organisation = request.path_params["id"], api.organisation(request)

    def ask(sql: sa.Connection) -> list[Step]:
        return alert_status.history(sql, alert)

    shelf = alerts.of(request).shelf
    if await shelf.ask(lambda store: store.find(alert, organisation)) is None:
        raise alerts.no_alert(alert)
    return json_response(AlertHistory(alert, [shown_step(step) for step in await shelf.read(ask)]))


async def moved_to(request: Request, ids: Sequence[str], to: Status, by: str | None, why: str | None) -> list[Moved]:
    """Moves the organisation's alerts, and tells all listeners."""
    organisation, parts = api.organisation(request), api.of(request)
    who, at = by or organisation, await parts.clock.now_ms(parts.client)

    def change(sql: sa.Connection) -> list[Moved]:
        return alert_status.move(sql, ids, to, who=who, at=at, why=why, organisation=organisation)

    moved = await alerts.of(request).shelf.write(change)
    if any(one.new for one in moved):
        await announce(request)
    return moved


async def announce(request: Request) -> None:
    """New steps are in SQL: this process's listeners hear it now, those of others through Redis."""
    with contextlib.suppress(StoreError):  # they look by themselves, a little later
        await api.of(request).client.call(pack("PUBLISH", keys.ALERTS_MOVED, ""))
    await alerts.of(request).feed.look()


def stands(moved: Moved) -> str:
    """Why it did not move."""
    if moved.status is None:
        return "there is no such alert"
    allowed = ", ".join(moved.may) or "nothing else"
    return f"the alert is {moved.status}, which may become {allowed}"


_ALERT = "/v1/alerts/{id}"
routes = [
    Route("/v1/alerts/status", move_many, methods=["PATCH"]),
    Route(f"{_ALERT}/status", move_one, methods=["PATCH"]),
    Route(f"{_ALERT}/history", history),
]
operations = [
    Operation(
        path="/v1/alerts/status",
        method="patch",
        summary=f"Move up to {MOST:,} alerts, each for itself",
        tag="Alerts",
        takes=StatusesTold,
        gives=StatusResults,
        errors=ERRORS,
    ),
    Operation(
        path=f"{_ALERT}/status",
        method="patch",
        summary="Acknowledge, dismiss, convert an alert; what stands there already is answered the same",
        tag="Alerts",
        parameters=(alerts.ID,),
        takes=StatusTold,
        gives=ShownAlert,
        errors={404: "no such alert", 409: "that step is not allowed; `detail` says which are", **ERRORS},
    ),
    Operation(
        path=f"{_ALERT}/history",
        summary="Every step of an alert: who, when, from where, to where, why",
        tag="Alerts",
        parameters=(alerts.ID,),
        gives=AlertHistory,
        errors={404: "no such alert"},
    ),
]
