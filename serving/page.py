"""How every page is made: templates that escape what they are given, a strict policy, forms, errors."""

from __future__ import annotations

import http
from collections.abc import Awaitable, Callable
from functools import cache, wraps
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import jinja2
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from flows.resp import StoreError
from serving import api, errors, page_charts, page_words
from serving.body import headers_of, read_body
from serving.errors import MAX_SHOWN, ApiError, unavailable
from serving.page_session import SAFE, Session, foreign, own

PAGES = Path(__file__).with_name("pages")
FORM_BYTES = 512 * 1024
FORM_FIELDS = 2_000
# `same-origin`: nobody else is told where somebody came from, and our own forms still say so (page_session.own).
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
Handler = Callable[[Request], Awaitable[Response]]
Form = list[tuple[str, str]]


@cache
def _templates() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= page_words.FILTERS
    made.globals |= {"bar": page_charts.bar, "interval": page_charts.interval, "span": page_words.span}
    return made


def page(request: Request, template: str, status: int = 200, **told: Any) -> Response:
    """A page in the frame of all; the template sees `told`."""
    frame = {
        "organisation": request.scope.get("organisation", ""),
        "session": request.scope.get("session"),
        "here": request.url.path + (f"?{request.url.query}" if request.url.query else ""),
        "clock": api.of(request).store.clock,
        "said": page_words.said(request.query_params.get("said", "")),
    }
    return HTMLResponse(_templates().get_template(template).render(frame | told), status, HEADERS)


def shown(handler: Handler) -> Handler:
    """The handler of a page: what cannot be answered is told on a page, and other sites' posts are refused."""

    @wraps(handler)
    async def shown_(request: Request) -> Response:
        try:
            if request.method not in SAFE and not own(request.scope):
                raise foreign()
            return await handler(request)
        except ApiError as error:
            return failed(request, error)
        except StoreError as error:
            return failed(request, unavailable(f"the store is not reachable: {error}"))

    return shown_


def failed(request: Request, error: ApiError) -> Response:
    title = http.HTTPStatus(error.status).phrase
    return page(request, "error.html", error.status, title=title, detail=error.detail)


def missing(request: Request, error: Exception) -> Response:
    """For the app: a path that leads nowhere is told on a page to whoever reads pages, else as the API tells it."""
    wants = request.method in SAFE and "text/html" in request.headers.get("accept", "")
    if wants and isinstance(error, HTTPException) and error.status_code == 404:
        return failed(request, ApiError(404, f"There is no page {request.url.path[:MAX_SHOWN]}"))
    return errors.handlers[HTTPException](request, error)


async def form(request: Request) -> Form:
    """The fields of a posted form, in order. Raises ApiError 400, 413, 415."""
    body = await read_body(headers_of(request.scope), request.receive, FORM_BYTES)
    try:
        return parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=FORM_FIELDS)
    except ValueError:
        raise ApiError(400, f"expected a form of at most {FORM_FIELDS} fields in UTF-8", "body") from None


def go(path: str) -> Response:
    """After a form was taken: look there."""
    return RedirectResponse(path, 303, HEADERS)


def reader(request: Request) -> str:
    """Whose marks of what was read are shown and set: those of who signed in, else the organisation's."""
    return actor(request) or api.organisation(request)


def actor(request: Request) -> str | None:
    """Who acts, as they said when they signed in."""
    session: Session | None = request.scope.get("session")
    return (session.name or None) if session else None
