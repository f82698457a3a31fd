"""A door whose requests are begun by one call and answered by a callback, whoever took them in.

The shortcut (`shortcut.py`) takes what can be begun at once; the door here, plain ASGI, waits for what the shortcut
does not: a key to be looked up, a connection, a body in pieces.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from starlette.types import Receive, Scope, Send

from flows.resp import StoreError
from serving.auth import Auth
from serving.body import HUNG_UP, Gone, headers_of, read_json
from serving.errors import JSON, ApiError, reply, reply_error, unavailable
from serving.pipeline import Pipeline

Done = Callable[[bytes | ApiError], None]


class Begins(Protocol):
    """Who answers."""

    pipeline: Pipeline

    def begin(self, organisation: bytes, body: bytes, done: Done) -> None:
        """`done` takes the JSON, or what is wrong. The pipeline is connected. Raises ApiError 4xx."""


class Door:
    """A path, as ASGI. `most`: bytes of a body."""

    def __init__(self, auth: Auth, to: Begins, most: int) -> None:
        self._auth, self._to, self._most = auth, to, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> int:
        """Answers, and returns the status."""
        if scope["method"] != "POST":
            return await reply_error(send, not_allowed(scope["method"], "POST"))
        try:
            found = await self._answer(headers_of(scope), receive)
        except ApiError as error:
            return await reply_error(send, error)
        except StoreError as error:
            return await reply_error(send, unavailable(f"the store is not reachable: {error}"))
        except Gone:
            return HUNG_UP
        return await reply(send, 200, found, JSON)

    async def _answer(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        organisation = await self._auth.organisation(headers.get(b"authorization", b""))
        body = await read_json(headers, receive, self._most)
        await self._to.pipeline.ready()
        answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def done(found: bytes | ApiError) -> None:
            if answered.done():
                return
            if isinstance(found, ApiError):
                answered.set_exception(found)
            else:
                answered.set_result(found)

        self._to.begin(organisation, body, done)
        return await answered


def quick(auth: Auth, to: Begins) -> Callable[[bytes, bytes, Done], bool]:
    """For the shortcut: (Authorization, body, done) -> False, where something has to be waited for first."""

    def begin(authorization: bytes, body: bytes, done: Done) -> bool:
        organisation = auth.remembered(authorization)
        if organisation is None or not to.pipeline.connected:
            return False
        try:
            to.begin(organisation, body, done)
        except ApiError as error:
            done(error)
        return True

    return begin


def not_allowed(method: str, *expected: str) -> ApiError:
    allowed = ", ".join(expected)
    return ApiError(405, f"expected {allowed}, not {method[:20]}", "method", headers=((b"allow", allowed.encode()),))
