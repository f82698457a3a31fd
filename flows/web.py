"""HTTP to addresses that others have named: one request, one connection, to an address that was checked.

The socket is made for the very address that it connects to, and is refused there (`addresses.py`): whatever a name
resolved to before or resolves to afterwards, and however the address is written, nothing inside is reached.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver

from feature_repo.networks import Network
from flows.addresses import RefusedError, check_address, check_url
from flows.delivery import wall_ms

MOST_READ = 4_096  # bytes of an answer
READ_S = 1.0  # that an answer's body may take once its status is known


class Answer(msgspec.Struct, frozen=True):
    """`said`: the beginning of its body. `after_s`: what its `Retry-After` asks for."""

    status: int
    said: str
    after_s: float | None = None

    @property
    def good(self) -> bool:
        return 200 <= self.status < 300


class Unreached(Exception):
    """No answer came; says why."""


class Web:
    """`resolver`: of names, the system's unless given. To be made, and closed, on the event loop."""

    def __init__(self, allowed: Sequence[Network] = (), resolver: AbstractResolver | None = None) -> None:
        self._allowed = allowed
        connector = aiohttp.TCPConnector(
            force_close=True,  # an idle connection that the other side closes meanwhile would look like a failure
            limit=0,  # the core bounds what is under way
            resolver=resolver or aiohttp.ThreadedResolver(),
            socket_factory=self._socket,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),  # the core ends what takes too long
            auto_decompress=False,  # nobody unpacks a bomb
            trust_env=False,  # no proxy: it would connect where it likes
        )

    async def send(self, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Raises RefusedError where the address is inside, Unreached."""
        checked = check_url(url, self._allowed)
        try:
            request = self._session.request(method, checked, data=body, headers=headers, allow_redirects=False)
            async with request as response:
                return Answer(response.status, await _beginning(response), _after(response.headers))
        except aiohttp.ClientError as error:
            raise _named(error) from None
        except (OSError, ValueError) as error:
            raise Unreached(f"{type(error).__name__}: {error}") from None

    async def close(self) -> None:
        await self._session.close()

    def _socket(self, info: Any) -> socket.socket:
        """A socket for that address, unless it is refused. Called for each address that is about to be tried."""
        family, kind, protocol, _, where = info
        check_address(where[0], self._allowed)
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        return made


async def _beginning(response: aiohttp.ClientResponse) -> str:
    """What it says, as far as that comes soon: the status has decided already."""
    found = b""
    try:
        async with asyncio.timeout(READ_S):
            while len(found) < MOST_READ and (piece := await response.content.read(MOST_READ - len(found))):
                found += piece
    except (TimeoutError, aiohttp.ClientError, OSError):
        return _text(found)
    return _text(found)


def _text(found: bytes) -> str:
    return "".join(c if c.isprintable() else " " for c in found.decode(errors="replace")).strip()


def _after(headers: Mapping[str, str]) -> float | None:
    """Seconds of `Retry-After` (RFC 9110, 10.2.3): a number, or a date."""
    told = headers.get("Retry-After", "").strip()
    if told.isascii() and told.isdigit():
        return float(told[:9])
    try:
        return max(parsedate_to_datetime(told).timestamp() - wall_ms() / 1000, 0.0) if told else None
    except (ValueError, OverflowError):
        return None


def _named(error: aiohttp.ClientError) -> Exception:
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, RefusedError):
            return inner
        inner = getattr(inner, "os_error", None) or inner.__cause__ or inner.__context__
    return Unreached(f"{type(error).__name__}: {error}"[:500])
