"""The outermost layer: leads events to their doors, lets others in who have a key, and measures every request."""

from __future__ import annotations

import logging
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flows.resp import StoreError
from serving.auth import Auth
from serving.body import HUNG_UP
from serving.errors import ApiError, fault, reply, reply_error, unavailable
from serving.page_session import Sessions, where_to_sign_in

log = logging.getLogger("telltale.api")

OPEN = frozenset({"/healthz", "/v2/health/live", "/v2/health/ready"})
OPEN_UNDER = ("/t/", "/c/", "/u/")  # links in messages: what they may do, their signed tokens say
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds
Door = Callable[[Scope, Receive, Send], Awaitable[int]]  # answers, and returns the status


class Requests:
    """How many requests, by route and status, and how long they took."""

    def __init__(self) -> None:
        self.answered: Counter[tuple[str, int]] = Counter()
        self.buckets: dict[str, list[int]] = {}
        self.seconds: dict[str, float] = {}

    def observe(self, route: str, status: int, seconds: float) -> None:
        self.answered[route, status] += 1
        self.seconds[route] = self.seconds.get(route, 0.0) + seconds
        buckets = self.buckets.get(route)
        if buckets is None:
            buckets = self.buckets[route] = [0] * (len(BUCKETS) + 1)
        buckets[bisect_left(BUCKETS, seconds)] += 1


class Front:
    """`doors` by path answer by themselves, keys included; all else is the app's, for those who have a key.

    `sessions`: of browsers that signed in; without, keys come as Basic auth alone.
    """

    def __init__(
        self,
        app: ASGIApp,
        doors: Mapping[str, Door],
        auth: Auth,
        requests: Requests,
        sessions: Sessions | None = None,
    ) -> None:
        self._app, self._doors, self._auth, self.requests = app, doors, auth, requests
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        door = self._doors.get(scope["path"])
        status = await (self._inside if door is None else door)(scope, receive, send)
        route = scope["path"] if door else getattr(scope.get("route"), "path", "other")
        self.requests.observe(route, status, time.perf_counter() - began)

    async def _inside(self, scope: Scope, receive: Receive, send: Send) -> int:
        status = HUNG_UP

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        scope["let_in"] = self._let_in
        try:
            await self._let_in(scope)
        except ApiError as error:
            return await self._turn_away(scope, send, error)
        except StoreError as error:
            return await reply_error(send, unavailable(f"keys cannot be looked up: {error}"), path=scope["path"])
        try:
            await self._app(scope, receive, observed)
        except Exception:  # Starlette has answered 500 and raises again for whoever is outside: that is us
            log.exception("%s %s failed", scope["method"], scope["path"])
        return status

    async def _let_in(self, scope: Scope) -> None:
        if scope["path"] not in OPEN and not scope["path"].startswith(OPEN_UNDER):
            header = dict(scope["headers"]).get(b"authorization", b"")
            if self._sessions is not None and not header:
                await self._sessions.let_in(scope)
                return
            scope["organisation"] = (await self._auth.organisation(header)).decode()

    async def _turn_away(self, scope: Scope, send: Send, error: ApiError) -> int:
        if self._sessions is not None and (place := where_to_sign_in(scope, error)):
            return await reply(send, 303, b"", b"text/plain", (b"location", place.encode()))
        return await reply_error(send, error, path=scope["path"])


def guarded(door: Door) -> Door:
    """A door whose own faults are answered like any other: 500, and the log says more."""

    async def guarded_(scope: Scope, receive: Receive, send: Send) -> int:
        try:
            return await door(scope, receive, send)
        except Exception:  # the outermost frame of a request
            log.exception("%s %s failed", scope["method"], scope["path"])
            return await reply_error(send, fault())

    return guarded_
