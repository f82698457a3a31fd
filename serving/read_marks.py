"""What somebody has read of the alerts in the app: marks, one by one, many at once, or all; and how many they have not.

A reader is whom `by` names, else the organisation of the key.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
import sqlalchemy as sa
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from flows import read_marks
from flows.delivery import wall_ms
from flows.read_marks import MOST_COUNTED, Reader
from serving import alerts, api
from serving.alert_status import BODY_BYTES, By, Ids
from serving.errors import json_response
from serving.given import ERRORS, given
from serving.openapi import Operation, Parameter
from serving.query import asked

BY = {"by": alerts.FILTER_READERS["by"]}


class ReadTold(msgspec.Struct, forbid_unknown_fields=True):
    """Alerts that are read, or with `read` false are not."""

    ids: Ids
    read: bool = True
    by: By = None


class AllRead(msgspec.Struct, forbid_unknown_fields=True):
    """All that there is by now is read."""

    by: By = None


class Marked(msgspec.Struct):
    """Ids that are marked so now: without those of which there is no alert. `unread`: how many are left."""

    marked: list[str]
    unread: int


class Unread(msgspec.Struct):
    """How many alerts are not read, as far as they are counted."""

    unread: Annotated[int, Meta(le=MOST_COUNTED)]


def reader(request: Request, by: str | None) -> Reader:
    organisation = api.organisation(request)
    return Reader(organisation, by or organisation)


async def put(request: Request) -> Response:
    return await _one(request, read=True)


async def remove(request: Request) -> Response:
    return await _one(request, read=False)


async def _one(request: Request, *, read: bool) -> Response:
    alert = request.path_params["id"]
    found = await _marked(request, asked(request, BY).get("by"), [alert], read=read)
    if not found.marked:
        raise alerts.no_alert(alert)
    return json_response(found)


async def many(request: Request) -> Response:
    told = await given(request, ReadTold, BODY_BYTES)
    return json_response(await _marked(request, told.by, told.ids, read=told.read))


async def everything(request: Request) -> Response:
    told = await given(request, AllRead, BODY_BYTES)
    who = reader(request, told.by)

    def change(sql: sa.Connection) -> int:
        read_marks.mark_all(sql, who, wall_ms())
        return read_marks.unread(sql, who)

    return json_response(Unread(await alerts.of(request).shelf.write(change)))


async def unread(request: Request) -> Response:
    who = reader(request, asked(request, BY).get("by"))
    return json_response(Unread(await alerts.of(request).shelf.read(lambda sql: read_marks.unread(sql, who))))


async def _marked(request: Request, by: str | None, ids: list[str], *, read: bool) -> Marked:
    who = reader(request, by)

    def change(sql: sa.Connection) -> Marked:
        found = read_marks.mark(sql, who, ids, wall_ms(), read=read)
        return Marked([id_ for id_ in dict.fromkeys(ids) if id_ in set(found)], read_marks.unread(sql, who))

    return await alerts.of(request).shelf.write(change)


routes = [
    Route("/v1/alerts/read", many, methods=["POST"]),
    Route("/v1/alerts/read-all", everything, methods=["POST"]),
    Route("/v1/alerts/unread", unread),
    Route("/v1/alerts/{id}/read", put, methods=["PUT"]),
    Route("/v1/alerts/{id}/read", remove, methods=["DELETE"]),
]
_BY = Parameter("by", "who reads; unless told, the organisation of the key", alerts.WHO)
_NONE = {404: "no such alert", 400: "a parameter that cannot be read; `field` names it"}
operations = [
    Operation(
        path="/v1/alerts/read",
        method="post",
        summary="Mark up to 1,000 alerts as read, or as not",
        tag="Alerts",
        takes=ReadTold,
        gives=Marked,
        errors=ERRORS,
    ),
    Operation(
        path="/v1/alerts/read-all",
        method="post",
        summary="Mark all alerts that there are by now as read",
        tag="Alerts",
        takes=AllRead,
        may_lack=True,
        gives=Unread,
        errors=ERRORS,
    ),
    Operation(
        path="/v1/alerts/unread",
        summary=f"How many alerts somebody has not read, counted up to {MOST_COUNTED:,}",
        tag="Alerts",
        parameters=(_BY,),
        gives=Unread,
        errors={400: "a parameter that cannot be read; `field` names it"},
    ),
    *(
        Operation(
            path="/v1/alerts/{id}/read",
            method=method,
            summary=summary,
            tag="Alerts",
            parameters=(alerts.ID, _BY),
            gives=Marked,
            errors=_NONE,
        )
        for method, summary in (("put", "Mark an alert as read"), ("delete", "Mark an alert as not read"))
    ),
]
