"""`/openapi.json` (OpenAPI 3.1), generated from the message types that validate and answer.

A room that adds routes lists what they take and give as `operations: list[Operation]`.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving import messages

JSON, PROBLEM, TEXT, STREAM = "application/json", "application/problem+json", "text/plain", "text/event-stream"
COMMON = {401: "no or an unknown write key", 503: "the store is not reachable: come back after Retry-After"}
EVENT_ERRORS = {
    400: "a call that cannot be read; `field` names what is wrong",
    413: "too large",
    415: "another type or compression of content",
}


class Parameter(msgspec.Struct, frozen=True):
    """One parameter of a path, a query or a header. `kind`: the type it is read as."""

    name: str
    description: str
    kind: Any = str
    where: str = "query"


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One method at one path: the types that it takes and gives (several: one of them), and how it can fail."""

    path: str
    summary: str
    tag: str
    method: str = "get"
    takes: Any = None
    told_by_path: str = ""  # a field of `takes` that may be left out
    may_lack: bool = False  # no body at all is taken as `{}`
    gives: Any = None
    media: str = JSON  # empty: no body
    later: str = ""  # what 202 means, where it is an answer too
    parameters: tuple[Parameter, ...] = ()
    errors: dict[int, str] = {}
    open: bool = False
    refusal: Any = messages.Problem  # how an error is told; another type than Problem: as plain JSON


def document(operations: Iterable[Operation]) -> dict[str, Any]:
    """The whole description."""
    operations = list(operations)
    kinds = [kind for o in operations for kind in _kinds(o)]
    kinds = [kind for i, kind in enumerate(kinds) if kind not in kinds[:i]]
    schemas, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    schema = list(zip(kinds, schemas, strict=True))
    paths: dict[str, Any] = {}
    for operation in operations:
        told = paths.setdefault(operation.path, {})[operation.method] = _operation(operation, schema)
        if operation.told_by_path:
            (body,) = told["requestBody"]["content"].values()
            body["schema"] = _optional(body["schema"], operation.told_by_path, components)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Telltale", "version": version("telltale"), "description": "Who is about to act, and why."},
        "security": [{"writeKey": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "writeKey": {"type": "http", "scheme": "basic", "description": "user name: a write key; no password"}
            },
        },
    }


def _kinds(operation: Operation) -> list[Any]:
    given = (operation.takes, *_each(operation.gives), operation.refusal, *(p.kind for p in operation.parameters))
    return [kind for kind in given if kind is not None]


def _each(gives: Any) -> tuple[Any, ...]:
    return gives if isinstance(gives, tuple) else (gives,)


def _operation(operation: Operation, schemas: list[tuple[Any, Any]]) -> dict[str, Any]:
    def content(kind: Any, media: str) -> dict[str, Any]:
        if kind is None:
            return {media: {"schema": {"type": "string"}}}
        found = [next(s for k, s in schemas if k == each) for each in _each(kind)]
        schema = found[0] if len(found) == 1 else {"oneOf": found}
        return {media: {"schema": _event(schema) if media == STREAM else schema}}

    good = {"content": content(operation.gives, operation.media)} if operation.media else {}

    refused = content(operation.refusal, PROBLEM if operation.refusal is messages.Problem else JSON)
    errors = {} if operation.open else {**COMMON, **operation.errors}
    found: dict[str, Any] = {
        "summary": operation.summary,
        "tags": [operation.tag],
        "responses": {
            "200": {"description": "done", **good},
            **({"202": {"description": operation.later, **good}} if operation.later else {}),
            **{str(s): {"description": d, "content": refused} for s, d in errors.items()},
        },
    }
    if operation.takes is not None:
        found["requestBody"] = {"required": not operation.may_lack, "content": content(operation.takes, JSON)}
    if operation.parameters:
        found["parameters"] = [
            {
                "name": p.name,
                "in": p.where,
                "description": p.description,
                "required": p.where == "path",
                "schema": next(s for k, s in schemas if k == p.kind),
            }
            for p in operation.parameters
        ]
    if operation.open:
        found["security"] = []
    return found


def _event(data: dict[str, Any]) -> dict[str, Any]:
    """Of each event of a stream: as OpenAPI 3.2 describes them, in words of 3.1."""
    text = {"type": "string"}
    shown = {"data": {**text, "contentMediaType": JSON, "contentSchema": data}, "event": text, "id": text}
    return {"type": "object", "properties": shown}


def _optional(schema: dict[str, Any], field: str, components: dict[str, Any]) -> dict[str, Any]:
    """The schema that is referred to, where this field may be missing."""
    own = {name: value for name, value in schema.items() if name != "$ref"}
    meant = components[schema["$ref"].rpartition("/")[2]]
    return {**meant, "required": [name for name in meant["required"] if name != field], **own}


def routes(described: dict[str, Any]) -> list[Route]:
    body = msgspec.json.encode(described)

    async def openapi(request: Request) -> Response:
        return Response(body, media_type=JSON)

    return [Route("/openapi.json", openapi)]
