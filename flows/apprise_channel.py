"""SMS and chat by apprise's URLs (https://github.com/caronc/apprise): a service a URL, over a hundred of them.

The library waits on sockets, so each message has a thread; it is imported with the first of them (0.3 s, 45 MB).
"""

from __future__ import annotations

import asyncio
import logging
import re
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any
from urllib.parse import unquote

import msgspec
import sqlalchemy as sa

from feature_repo.networks import Network
from flows.addresses import RefusedError, check_address
from flows.channel import Dead, Gone, Parcel, Result, Retry, Sent
from flows.messages import Message
from flows.recipients import Personal, reachable

SCHEDULE: tuple[float, ...] = (5, 30, 120, 600, 1800, 7200, 21_600)  # some 9 h: news that comes later is none
TIMEOUT_S = 20.0
LOCAL = {"blink1", "dbus", "qt", "kde", "glib", "gnome", "macosx", "syslog", "windows", "vapid", "fcm"}
READS_FILES = {"template", "keyfile", "subfile", "subscription", "pgppub", "pgpprv", "attach"}  # options that do
REACHES = {"socket.connect", "socket.sendto", "socket.sendmsg"}  # the last two: UDP, which need not connect
WAITS = {"cto", "rto"}  # for how long a connection, or a read, is waited for
_decode = msgspec.json.Decoder(Message).decode
_guard = threading.local()  # of a thread that sends: the networks it may reach beside public addresses


class UnfitError(ValueError):
    """A URL that leads to no service, or to none for us. Its words do not tell the URL, which holds secrets."""


class AppriseChannel:
    """`name`: sms or chat. A message may reach public addresses, and `allowed` networks."""

    schedule = SCHEDULE
    timeout_s = TIMEOUT_S
    at_once = 1
    most = 100  # threads, also with those that nobody waits for any more

    def __init__(self, name: Personal, allowed: Sequence[Network] = ()) -> None:
        self.name: str = name
        self._channel, self._allowed = name, tuple(allowed)
        self._busy: set[str] = set()  # targets whose thread has not come back, though nobody waits for it any more

    def targets(self, connection: sa.Connection, ids: Sequence[str]) -> Mapping[str, str]:
        return reachable(connection, self._channel, ids)

    async def send(self, parcel: Parcel, to: str) -> Result:
        if parcel.target in self._busy:
            return Retry("the attempt before has not come to its end")
        if len(self._busy) >= self.most:
            return Retry("too many attempts before have not come to their ends")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Result] = loop.create_future()
        self._busy.add(parcel.target)

        def settle(result: Result) -> None:
            self._busy.discard(parcel.target)
            if not answer.done():
                answer.set_result(result)

        def work() -> None:
            result = self._sent(_decode(parcel.body), to)
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle, result)

        threading.Thread(target=work, name=f"{self.name}-{parcel.id}", daemon=True).start()
        return await answer

    def disable(self, connection: sa.Connection, target: str, gone: Gone, at: int) -> bool:
        """No answer of a service says that nothing will ever arrive."""
        return True

    def _sent(self, message: Message, url: str) -> Result:
        """On a thread, so it ends with a result whatever happens: somebody waits for it."""
        _guard.allowed, _guard.said = self._allowed, []
        try:
            done = made(url).notify(body=message.text, title=message.title, body_format="text")
        except UnfitError as error:
            return Dead(str(error))
        except Exception as error:  # noqa: BLE001 # of a service's own code, whose trace may tell the URL
            return Retry(f"{type(error).__name__} in apprise")
        finally:
            said, _guard.said = "; ".join(_guard.said), None
            _guard.allowed = None
        return Sent() if done else Retry(without_secrets(said, url) or "the service did not take it")


def made(url: str) -> Any:
    """The service behind a URL. Raises UnfitError."""
    check_service(url)
    service = _apprise().Apprise.instantiate(url, asset=_asset(), suppress_exceptions=True)
    if service is None:
        raise UnfitError(f"apprise knows no service {scheme(url)}://, or the URL lacks something that it needs")
    return service


def check_service(url: str) -> None:
    """Refuses what would act on this machine instead of telling somebody, or read its files. Raises UnfitError."""
    if "://" not in url or not url.isprintable():
        raise UnfitError("expected a URL of apprise, as slack://TokenA/TokenB/TokenC")
    if scheme(url) in LOCAL:
        raise UnfitError(f"{scheme(url)}:// would act on this machine")
    options = [(unquote(name).lower().strip(" +-:"), unquote(value)) for name, value in _options(url)]
    for name, value in options:
        if name in READS_FILES:
            raise UnfitError(f"the option {name} would read a file of this machine")
        if name in WAITS and not _waits(value):
            raise UnfitError(f"the option {name}: expected seconds, more than 0 and at most {TIMEOUT_S:g}")


def _options(url: str) -> list[tuple[str, str]]:
    """As they stand there, by name."""
    parted = (pair.partition("=") for pair in re.split("[?&;]", url)[1:])
    return [(name, value) for name, _, value in parted]


def _waits(text: str) -> bool:
    """Whether a thread that waits for so long comes back. What is no number is refused too (NaN is none)."""
    try:
        return 0 < float(text) <= TIMEOUT_S
    except ValueError:
        return False


def scheme(url: str) -> str:
    return url.partition("://")[0].lower()


def masked(url: str) -> str:
    """What may be shown of it."""
    return f"{scheme(url)}://…"


def without_secrets(text: str, url: str) -> str:
    """With every part of the URL, however spelled, taken out."""
    parts = {part for part in _parts(url) if len(part) >= 4}
    for part in sorted(parts, key=len, reverse=True):
        text = text.replace(part, "…")
    return text[:500]


def _parts(url: str) -> set[str]:
    rest = url.partition("://")[2]
    pieces = {rest}
    for mark in "/?&=@:":
        pieces |= {piece for part in pieces for piece in part.split(mark)}
    return pieces | {unquote(piece) for piece in pieces}


class _Heard(logging.Handler):
    """What the library says on a thread that sends."""

    def emit(self, record: logging.LogRecord) -> None:
        said = getattr(_guard, "said", None)
        if said is not None:
            said.append(record.getMessage())


@cache
def _apprise() -> Any:
    import apprise

    log = logging.getLogger("apprise")
    log.addHandler(_Heard(logging.WARNING))
    log.setLevel(logging.WARNING)
    log.propagate = False  # it may name URLs
    sys.addaudithook(_watch)
    return apprise


@cache
def _asset() -> Any:
    return _apprise().AppriseAsset(async_mode=False, http_redirects=False, storage_mode="memory")


def _watch(event: str, args: tuple[Any, ...]) -> None:
    """Python asks here before a socket connects or sends: a thread that sends reaches none that is refused."""
    if event not in REACHES:
        return
    allowed, address = getattr(_guard, "allowed", None), args[1]
    if allowed is None or address is None:  # None: to where it is connected
        return
    if not isinstance(address, tuple):
        raise RefusedError("a socket of this machine is not a public address")
    check_address(address[0], allowed)
