"""Doors to what organisations tell us to keep: made, listed, read, changed and removed, the same way for every kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec
import sqlalchemy as sa
from msgspec import UNSET, UnsetType
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from flows.delivery import wall_ms
from flows.kept import Document, Kept, new_id
from serving import alerts, api
from serving.deliveries import announce
from serving.errors import MAX_SHOWN, ApiError, json_response
from serving.given import ERRORS, given
from serving.openapi import Operation, Parameter

BODY_BYTES = 64 * 1024
T = TypeVar("T", bound=Document)
Told = Any  # the Struct of what a kind is made of, as a request tells it


class Removed(msgspec.Struct):
    """It is no more."""

    id: str


class Kind(msgspec.Struct, Generic[T], kw_only=True):
    """One kind of documents: how it is told, checked, kept and shown.

    `made`: of what was told, with the request, a connection, the organisation and the id; raises ApiError 422.
    `told`: the reverse, so that a change is what stands with what is given put over it. `leaves`: what happens with
    one that is about to be removed; raises ApiError 409 where it must stay. `prepare`: what takes long, before others
    have to wait for the transaction; of a change, fields that are not given are UNSET.
    """

    path: str
    noun: str
    prefix: str
    most: int
    kept: Kept[T]
    takes: type
    shows: type
    lists: type
    made: Callable[[Request, sa.Connection, Told, T | None], T]
    told: Callable[[T], Told]
    shown: Callable[[T], Any]
    leaves: Callable[[sa.Connection, T], None] = lambda connection, one: None
    prepare: Callable[[Told], None] = lambda told: None


def changes(takes: type) -> type:
    """The same message, each of whose fields may be left out."""
    fields = [
        (f.name, f.type | UnsetType, msgspec.field(default=UNSET, name=f.encode_name))
        for f in msgspec.structs.fields(takes)
    ]
    doc = {"__doc__": "What is to be another; what is not given stays."}
    return msgspec.defstruct(
        takes.__name__.replace("Told", "Change"), fields, forbid_unknown_fields=True, namespace=doc
    )


class Doors(Generic[T]):
    """The handlers of one kind."""

    def __init__(self, kind: Kind[T]) -> None:
        self.kind, self._changes = kind, changes(kind.takes)
        self._one = f"{kind.path}/{{id}}"

    async def make(self, request: Request) -> Response:
        kind = self.kind
        told: Told = await given(request, kind.takes, BODY_BYTES)
        await run_in_threadpool(kind.prepare, told)

        def change(sql: sa.Connection) -> T:
            if kind.kept.count(sql, api.organisation(request)) >= kind.most:
                raise ApiError(409, f"there are {kind.most} of these already, and no more can be kept")
            new = kind.made(request, sql, told, None)
            kind.kept.add(sql, new)
            return new

        return json_response(kind.shown(await alerts.of(request).shelf.write(change)))

    async def listed(self, request: Request) -> Response:
        organisation = api.organisation(request)
        found = await alerts.of(request).shelf.read(lambda sql: self.kind.kept.all(sql, organisation))
        return json_response(self.kind.lists([self.kind.shown(one) for one in found]))

    async def one(self, request: Request) -> Response:
        found = await alerts.of(request).shelf.read(lambda sql: self.found(request, sql))
        return json_response(self.kind.shown(found))

    async def patch(self, request: Request) -> Response:
        asked: Any = await given(request, self._changes, BODY_BYTES)
        await run_in_threadpool(self.kind.prepare, asked)
        told = msgspec.structs.asdict(asked)
        over = {name: value for name, value in told.items() if value is not UNSET}

        def change(sql: sa.Connection) -> T:
            old = self.found(request, sql)
            new = self.kind.made(request, sql, msgspec.structs.replace(self.kind.told(old), **over), old)
            self.kind.kept.change(sql, old.organisation, old.id, lambda _: new)
            return new

        new = await alerts.of(request).shelf.write(change)
        await announce(request)
        return json_response(self.kind.shown(new))

    async def remove(self, request: Request) -> Response:
        def change(sql: sa.Connection) -> str:
            old = self.found(request, sql)
            self.kind.leaves(sql, old)
            self.kind.kept.remove(sql, old.organisation, old.id)
            return old.id

        removed = await alerts.of(request).shelf.write(change)
        await announce(request)
        return json_response(Removed(removed))

    def found(self, request: Request, sql: sa.Connection) -> T:
        """Raises ApiError 404."""
        id_ = request.path_params["id"]
        found = self.kind.kept.find(sql, api.organisation(request), id_)
        if found is None:
            raise ApiError(404, f"there is no {self.kind.noun} {id_[:MAX_SHOWN]!r}", "id")
        return found

    @property
    def routes(self) -> list[Route]:
        return [
            Route(self.kind.path, self.make, methods=["POST"]),
            Route(self.kind.path, self.listed),
            Route(self._one, self.one),
            Route(self._one, self.patch, methods=["PATCH"]),
            Route(self._one, self.remove, methods=["DELETE"]),
        ]

    @property
    def operations(self) -> list[Operation]:
        kind, noun = self.kind, self.kind.noun
        none = {404: f"no such {noun}"}
        id_ = (Parameter("id", f"the {noun}'s id", where="path"),)

        def one(method: str, summary: str, gives: type, errors: dict[int, str], **more: Any) -> Operation:
            told = {"parameters": id_, "errors": none | errors} | more
            return Operation(path=self._one, method=method, summary=summary, tag="Delivery", gives=gives, **told)

        many: dict[str, Any] = {"path": kind.path, "tag": "Delivery"}
        return [
            Operation(
                **many,
                method="post",
                summary=f"A new {noun}",
                takes=kind.takes,
                gives=kind.shows,
                errors={**ERRORS, 409: "there are too many"},
            ),
            Operation(**many, summary=f"Every {noun}, the first made first", gives=kind.lists),
            one("get", f"One {noun}", kind.shows, {}),
            one(
                "patch",
                f"Change a {noun}; what is not given stays",
                kind.shows,
                ERRORS,
                takes=self._changes,
                may_lack=True,
            ),
            one("delete", f"Remove a {noun}", Removed, {409: "something else needs it"}),
        ]


def made_of(kind: Kind[T], request: Request, old: T | None) -> dict[str, Any]:
    """What every document has: whose it is, since when, and when it was last changed."""
    now = wall_ms()
    if old is None:
        id_ = new_id(kind.prefix)
        return {"id": id_, "organisation": api.organisation(request), "created_at": now, "updated_at": now}
    kept = {name: getattr(old, name) for name in ("id", "organisation", "created_at")}
    return kept | {"updated_at": now}
