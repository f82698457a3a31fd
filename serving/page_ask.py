"""The page asks the API as everybody does, only without a socket: what a key's holder may, it may, and no more."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote, urlencode

import msgspec
from starlette.requests import Request
from starlette.types import Message

from serving.errors import ApiError
from serving.messages import Problem

Query = Iterable[tuple[str, str]]


async def ask(request: Request, path: str, query: Query = ()) -> Any:
    """The JSON of a GET. Raises ApiError with what the API says of it."""
    return msgspec.json.decode(await text(request, path, query))


async def tell(request: Request, method: str, path: str, message: object) -> Any:
    """The JSON that answers a message. Raises ApiError."""
    return msgspec.json.decode(await _call(request, method, path, b"", msgspec.json.encode(message)))


async def text(request: Request, path: str, query: Query = ()) -> bytes:
    """The body of a GET. Raises ApiError."""
    return await _call(request, "GET", path, urlencode(list(query)).encode(), b"")


async def perhaps(request: Request, path: str, query: Query = ()) -> Any:
    """The JSON of a GET, or None where there is no such thing. Raises other ApiErrors."""
    try:
        return await ask(request, path, query)
    except ApiError as error:
        if error.status != 404:
            raise
        return None


async def _call(request: Request, method: str, path: str, query: bytes, body: bytes) -> bytes:
    """`path`: its parts quoted, as in a URL."""
    status, found = 500, bytearray()

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status
        status = message.get("status", status)
        found.extend(message.get("body", b""))

    scope = {
        "type": "http",
        "method": method,
        "path": unquote(path),
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query,
        "headers": [(b"content-type", b"application/json")],
        "scheme": "http",
        "server": ("page", 80),
        "organisation": request.scope["organisation"],
        "state": request.scope.get("state", {}),
    }
    await request.app(scope, receive, send)
    if status >= 400:
        raise _problem(status, bytes(found))
    return bytes(found)


def _problem(status: int, body: bytes) -> ApiError:
    try:
        said = msgspec.json.decode(body, type=Problem)
    except msgspec.MsgspecError:
        return ApiError(status, "the API could not answer")
    return ApiError(status, said.detail, said.field, problems=said.problems)
