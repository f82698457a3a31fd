"""Every error as RFC 9457 problem details that name the field, and one way to send any response."""

from __future__ import annotations

import http
import re
from typing import Any, cast

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Send

from flows.resp import StoreError
from serving.messages import Problem

JSON = b"application/json"
PROBLEM = b"application/problem+json"
MAX_SHOWN = 200  # characters of somebody's input in a message
_PATH = re.compile(r"^(.*?)(?: - at `\$\.?(.*)`)?$", re.DOTALL)
_MISSING = re.compile(r"missing required field `(.+)`")


class ApiError(Exception):
    """A request that cannot be answered as asked; becomes a `Problem`, of which `more` are further members."""

    def __init__(
        self,
        status: int,
        detail: str,
        field: str | None = None,
        *,
        headers: tuple[tuple[bytes, bytes], ...] = (),
        **more: Any,
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.field = status, detail[:1000], field
        self.headers, self._more = headers, more

    @property
    def problems(self) -> list[str]:
        """Each thing that is in the way, where there may be several."""
        return list(self._more.get("problems", ()))

    @property
    def body(self) -> bytes:
        title = http.HTTPStatus(self.status).phrase
        return msgspec.json.encode(
            Problem(
                type="about:blank",
                title=title,
                status=self.status,
                detail=self.detail,
                field=self.field,
                **self._more,
            )
        )


def unauthorised(detail: str) -> ApiError:
    return ApiError(401, detail, "Authorization", headers=((b"www-authenticate", b'Basic realm="write key"'),))


def unavailable(detail: str, seconds: int = 1, **more: Any) -> ApiError:
    return ApiError(503, detail, headers=((b"retry-after", b"%d" % seconds),), **more)


def too_large(most: int, *, close: bool = False) -> ApiError:
    """`close`: the connection too, so that nobody sends the rest."""
    headers = ((b"connection", b"close"),) if close else ()
    return ApiError(413, f"expected a body of at most {most} bytes (unpacked)", "body", headers=headers)


def located(error: Exception) -> tuple[str, str]:
    """(field, what is wrong with it) of what msgspec says."""
    found = _PATH.match(str(error))
    detail, path = (found[1], found[2] or "") if found else (str(error), "")
    missing = _MISSING.search(detail)
    return ".".join(filter(None, (path, missing[1] if missing else ""))) or "body", detail[:MAX_SHOWN]


def fault() -> ApiError:
    return ApiError(500, "this is a fault of ours; the log of the API says more")


async def reply(send: Send, status: int, body: bytes, kind: bytes, *more: tuple[bytes, bytes]) -> int:
    """Sends a whole response; returns its status."""
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body)), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
    return status


async def reply_error(send: Send, error: ApiError, *more: tuple[bytes, bytes], path: str = "") -> int:
    """`path`: that was asked for, where it may be one of a protocol that tells errors its own way."""
    body, kind = told(error, path)
    return await reply(send, error.status, body, kind, *error.headers, *more)


def told(error: ApiError, path: str) -> tuple[bytes, bytes]:
    """(body, media type): a problem, or under `/v2` as the Open Inference Protocol has errors."""
    if path == "/v2" or path.startswith("/v2/"):
        return msgspec.json.encode({"error": error.detail}), JSON
    return error.body, PROBLEM


def as_response(error: ApiError, path: str) -> Response:
    headers = {name.decode(): value.decode() for name, value in error.headers}
    body, kind = told(error, path)
    return Response(body, error.status, headers, kind.decode())


def json_response(value: object, status: int = 200) -> Response:
    """A Struct as JSON."""
    return Response(msgspec.json.encode(value), status, media_type=JSON.decode())


def _api(request: Request, error: Exception) -> Response:
    return as_response(cast(ApiError, error), request.url.path)


def _http(request: Request, error: Exception) -> Response:
    error = cast(HTTPException, error)
    where = f"{request.method} {request.url.path[:MAX_SHOWN]}"
    detail = {404: f"there is no {where}", 405: f"{where}: another method is expected"}.get(error.status_code)
    field = {404: "path", 405: "method"}.get(error.status_code)
    told = dict(error.headers or {}) | ({"Allow": allowed(request)} if error.status_code == 405 else {})
    headers = tuple((k.encode(), v.encode()) for k, v in told.items())
    return as_response(ApiError(error.status_code, detail or error.detail, field, headers=headers), request.url.path)


def allowed(request: Request) -> str:
    """Every method of the path; Starlette names those of the first route alone.

    Where both a name and a placeholder match (`/v1/alerts/read` and `/v1/alerts/{id}`) the name is meant.
    """
    there = [
        route for route in request.app.routes if isinstance(route, Route) and route.matches(request.scope)[0].value
    ]
    paths = [route.path for route in there]
    meant = request.url.path if request.url.path in paths else paths[0]
    methods = {method for route in there if route.path == meant for method in route.methods or ()}
    return ", ".join(sorted(methods))


def _store(request: Request, error: Exception) -> Response:
    return as_response(unavailable(f"the store is not reachable: {error}"), request.url.path)


def _fault(request: Request, error: Exception) -> Response:
    return as_response(fault(), request.url.path)  # the front door logs it


handlers = {ApiError: _api, HTTPException: _http, StoreError: _store, Exception: _fault}
