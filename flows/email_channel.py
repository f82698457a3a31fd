"""E-mail by SMTP (RFC 5321): one connection a mail, and the same bytes over all attempts."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from email.utils import parseaddr
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec
import sqlalchemy as sa

from feature_repo.settings import SettingError
from flows import letter
from flows.channel import Dead, Gone, Parcel, Result, Retry, Sent
from flows.recipients import reachable

StartTls = Literal["required", "offered", "never"]
PORTS = {"smtp": 25, "smtps": 465}
TIMEOUT_S = 30.0
# Seconds: greylisting first, 44 h in all.
SCHEDULE: tuple[float, ...] = (60, 300, 900, 1800, 3600, 7200, 14_400, 28_800, 43_200, 57_600)
SHAPE = "smtp(s)://[user:password@]host[:port][?starttls=required|offered|never]"
UNSET = "TELLTALE_SMTP_URL is not set"


class Server(msgspec.Struct, frozen=True):
    """Where mail is handed in. `tls`: from the first byte on; `starttls`: what is asked of a server without."""

    host: str
    port: int
    tls: bool
    starttls: StartTls
    user: str = ""
    password: str = ""


def server(url: str) -> Server | None:
    """Of `TELLTALE_SMTP_URL`; None where it is empty. Raises SettingError, which never tells the password."""
    if not url:
        return None
    try:
        return _server(url)
    except ValueError as error:
        raise SettingError(f"TELLTALE_SMTP_URL: expected {SHAPE}, {error}") from None


def _server(url: str) -> Server:
    parts = urlsplit(url)
    if parts.scheme not in PORTS or not parts.hostname:
        raise ValueError(f"got the scheme {parts.scheme[:20]!r} and the host {parts.hostname!r}")
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    asked = {"starttls": "required" if user else "offered"} | dict(parse_qsl(parts.query))
    if set(asked) != {"starttls"} or asked["starttls"] not in {"required", "offered", "never"}:
        raise ValueError(f"got ?{parts.query[:60]}")
    starttls: StartTls = asked["starttls"]  # type: ignore[assignment]  # one of the three
    return Server(parts.hostname, parts.port or PORTS[parts.scheme], parts.scheme == "smtps", starttls, user, password)


class EmailChannel:
    """To recipients by their addresses. A 4xx is tried again, a 5xx about mail or recipient is the end."""

    name: str = "email"
    schedule = SCHEDULE
    timeout_s = TIMEOUT_S
    at_once = 1
    most = 10  # servers turn away who opens more connections

    def __init__(self, where: Server | None, sender: str) -> None:
        self._where, self._sender = where, parseaddr(sender)[1]
        self._trust = ssl.create_default_context() if where else None

    def targets(self, connection: sa.Connection, ids: Sequence[str]) -> Mapping[str, str]:
        return reachable(connection, "email", ids)

    async def send(self, parcel: Parcel, to: str) -> Result:
        if self._where is None:
            return Retry(UNSET)
        import aiosmtplib  # 20 ms, which only those pay who send mail

        try:
            return Sent(await self._hand_in(self._where, letter.decode(parcel.body).message(), to))
        except aiosmtplib.SMTPRecipientsRefused as refused:
            return _answered(refused.recipients[0])
        except aiosmtplib.SMTPDataError as error:
            return _answered(error)
        except aiosmtplib.SMTPResponseException as error:  # of the login or the sender: what an operator can put right
            return Retry(f"{error.code} {error.message}")
        except (aiosmtplib.SMTPException, OSError) as error:
            return Retry(f"{type(error).__name__}: {error}")

    async def _hand_in(self, where: Server, body: bytes, to: str) -> str:
        import aiosmtplib

        client = aiosmtplib.SMTP(
            hostname=where.host,
            port=where.port,
            use_tls=where.tls,
            start_tls=False if where.tls else {"required": True, "offered": None, "never": False}[where.starttls],
            username=where.user or None,
            password=where.password or None,
            tls_context=self._trust,
            timeout=TIMEOUT_S,
        )
        try:
            await client.connect()
            _, said = await client.sendmail(self._sender, [to], body)
        finally:
            client.close()
        return said

    def disable(self, connection: sa.Connection, target: str, gone: Gone, at: int) -> bool:
        """No answer of a mail server says that nothing will ever arrive."""
        return True


def _answered(error: Any) -> Result:
    said = f"{error.code} {error.message}"
    return Retry(said) if 400 <= error.code < 500 else Dead(said)
