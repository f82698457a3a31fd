"""The outermost layer: lets in who has a key, and measures every request."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flows.resp import StoreError
from serving.auth import Auth
from serving.errors import ApiError, reply_error, unavailable

OPEN = frozenset({"/healthz"})
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds


class Requests:
    """How many requests, by route and status, and how long they took."""

    def __init__(self) -> None:
        self.answered: Counter[tuple[str, int]] = Counter()
        self.buckets: dict[str, list[int]] = {}
        self.seconds: Counter[str] = Counter()

    def observe(self, route: str, status: int, seconds: float) -> None:
        self.answered[route, status] += 1
        self.seconds[route] += seconds  # type: ignore[assignment]  # Counter also adds fractions
        self.buckets.setdefault(route, [0] * (len(BUCKETS) + 1))[bisect_left(BUCKETS, seconds)] += 1


class Measured:
    """Counts what the app answers. Routes are named by their pattern, so that their number stays small."""

    def __init__(self, app: ASGIApp, requests: Requests) -> None:
        self._app, self._requests = app, requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 499  # hung up before an answer

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        began = time.perf_counter()
        try:
            await self._app(scope, receive, observed)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._requests.observe(route, status, time.perf_counter() - began)


class Keyed:
    """Asks for a write key, except at open paths and those that take it in the body too."""

    def __init__(self, app: ASGIApp, auth: Auth, exempt: frozenset[str]) -> None:
        self._app, self._auth, self._exempt = app, auth, OPEN | exempt

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in self._exempt:
            try:
                organisation = await self._auth.organisation(dict(scope["headers"]).get(b"authorization", b""))
            except ApiError as error:
                await reply_error(send, error)
                return
            except StoreError as error:
                await reply_error(send, unavailable(f"keys cannot be looked up: {error}"))
                return
            scope["organisation"] = organisation.decode()
        await self._app(scope, receive, send)
