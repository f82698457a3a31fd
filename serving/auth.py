"""Who is asking: the write key, as Basic auth's user name, names an organisation."""

from __future__ import annotations

import asyncio
import base64
import binascii
import time
from collections.abc import Callable

from feature_repo import keys
from flows.resp import StoreError, pack
from serving.connection import Client
from serving.errors import unauthorised

FRESH = 1.0  # seconds for which a key once looked up is believed
MAX_CACHED, MAX_HEADER = 10_000, 1024  # headers remembered, and their bytes: a password may be of any length


def basic_user(header: bytes) -> str:
    """The user name in `Authorization: Basic`. Raises ApiError 401."""
    scheme, _, encoded = header.partition(b" ")
    if scheme.lower() != b"basic":
        raise unauthorised("expected Basic auth with the write key as user name and an empty password")
    try:
        return base64.b64decode(encoded, validate=True).decode().partition(":")[0]
    except (binascii.Error, UnicodeDecodeError):
        raise unauthorised("expected base64 of `<write key>:` after Basic") from None


class Emptied(StoreError):
    """Our store is gone, and the keys with it: who were told 401 would not come back."""


class Auth:
    """Looks keys up in the store, and remembers each answer for a second. Who asks the same meanwhile shares it."""

    def __init__(self, client: Client, clock: Callable[[], float] = time.monotonic, seed: int | None = None) -> None:
        self._client, self._clock, self._seed = client, clock, seed
        self._by_header: dict[bytes, tuple[float, bytes]] = {}
        self._asking: dict[bytes, asyncio.Task[bytes]] = {}

    def remembered(self, header: bytes) -> bytes | None:
        """The organisation that this header was found to name less than a second ago."""
        found = self._by_header.get(header)
        left = found[0] - self._clock() if found else 0.0
        if found is None or left <= 0:
            return None
        if left < FRESH / 2 and header not in self._asking:  # who asks all the time never has to wait
            self._look_up(header)
        return found[1]

    async def organisation(self, header: bytes) -> bytes:
        """The organisation of an `Authorization` header. Raises ApiError 401, StoreError."""
        if not header:
            raise unauthorised("a write key is needed: send it as the user name of Basic auth")
        if (known := self.remembered(header)) is not None:
            return known
        return await asyncio.shield(self._asking.get(header) or self._look_up(header))

    def _look_up(self, header: bytes) -> asyncio.Task[bytes]:
        def ended(task: asyncio.Task[bytes]) -> None:
            del self._asking[header]
            if not task.cancelled():
                task.exception()  # nobody may wait for it

        asking = self._asking[header] = asyncio.create_task(self._ask(header))
        asking.add_done_callback(ended)
        return asking

    async def _ask(self, header: bytes) -> bytes:
        try:
            organisation = await self.of_key(basic_user(header))
        except Emptied:
            if header not in self._by_header:
                raise
            organisation = self._by_header[header][1]  # so that who watches us is told what happened
        if len(self._by_header) >= MAX_CACHED:
            self._by_header.clear()
        if len(header) <= MAX_HEADER:
            self._by_header[header] = (self._clock() + FRESH, organisation)
        return organisation

    async def of_key(self, key: str) -> bytes:
        """The organisation of a write key. Raises ApiError 401, Emptied, StoreError."""
        (organisation,) = await self._client.call(pack("HGET", keys.KEYS, key.encode()))
        if organisation is None:
            await self._refuse_other_store()
            raise unauthorised("this write key is not known")
        if not organisation or b"/" in organisation:
            raise unauthorised("the organisation of this write key has no name or one with a slash in it")
        return bytes(organisation)

    async def _refuse_other_store(self) -> None:
        """Raises Emptied."""
        if self._seed is None:
            return
        (seed,) = await self._client.call(pack("HGET", keys.STORE, "seed"))
        if seed != b"%d" % self._seed:
            raise Emptied("this Redis does not hold our store any more; `telltale doctor` says what to do")
