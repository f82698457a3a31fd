"""`/sign-in` and `/sign-out`: a write key in, a cookie out."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving.errors import ApiError
from serving.page import form, go, page, shown
from serving.page_session import LIFE_S, SIGN_IN, Session, Sessions, local, secure

MOST = 200  # characters of a name, as the API takes them


async def asked(request: Request) -> Response:
    return page(request, "sign_in.html", next=local(request.query_params.get("next", "/")), problem="")


async def sign_in(request: Request) -> Response:
    given = dict(await form(request))
    wanted = local(given.get("next", "/"))
    try:
        session = Session(given.get("key", "").strip(), given.get("name", "").strip()[:MOST])
        token = await _sessions(request).begin(session)
    except ApiError as error:
        return page(request, "sign_in.html", error.status, next=wanted, problem=error.detail)
    answer = go(wanted)
    _set_cookie(request, answer, token, LIFE_S)
    return answer


async def sign_out(request: Request) -> Response:
    await _sessions(request).end(request.scope)
    answer = go(f"{SIGN_IN}?said=signed-out")
    _set_cookie(request, answer, "", 0)
    return answer


def _set_cookie(request: Request, answer: Response, token: str, seconds: int) -> None:
    answer.set_cookie(
        _sessions(request).cookie,
        token,
        max_age=seconds,
        httponly=True,
        samesite="strict",
        secure=secure(request.scope),
    )


def _sessions(request: Request) -> Sessions:
    return request.app.state.sessions


routes = [
    Route(SIGN_IN, shown(asked)),
    Route(SIGN_IN, shown(sign_in), methods=["POST"]),
    Route("/sign-out", shown(sign_out), methods=["POST"]),
]
