"""A real SMTP server (aiosmtpd) on a free port, which can be told to refuse, to put off, to break off and to hang."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

USER, PASSWORD = "telltale", "s3cret & more"
GOOD = "250 OK"


class Postmaster:
    """What it answers, in turn; the last for ever. `mails`: (to, bytes) of what it took."""

    def __init__(
        self, *, rcpt: tuple[str, ...] = (GOOD,), data: tuple[str, ...] = (GOOD,), pause_s: float = 0.0
    ) -> None:
        self._rcpt, self._data, self._pause_s = list(rcpt), list(data), pause_s
        self.mails: list[tuple[str, bytes]] = []
        self.tries: list[bytes] = []
        self.over_tls: list[bool] = []
        self.passwords: list[bytes] = []
        self.talking = self.most = 0  # mails that are being taken, and at most were

    def answer_data(self, answers: list[str]) -> None:
        """From here on, mail by mail."""
        self._data = answers

    async def handle_RCPT(  # noqa: N802 # aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        said = self._rcpt.pop(0) if len(self._rcpt) > 1 else self._rcpt[0]
        if said == GOOD:
            envelope.rcpt_tos.append(address)
        return said

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        said = self._data.pop(0) if len(self._data) > 1 else self._data[0]
        self.talking += 1
        self.most = max(self.most, self.talking)
        await asyncio.sleep(self._pause_s)
        self.talking -= 1
        content = envelope.original_content
        assert isinstance(content, bytes)
        self.tries.append(content)
        self.over_tls.append(session.ssl is not None)
        if said == "break":
            _break_off(server)
        elif said.startswith("2"):
            self.mails += [(to, content) for to in envelope.rcpt_tos]
        return said

    def authenticate(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        self.passwords.append(data.password)
        good = (data.login, data.password) == (USER.encode(), PASSWORD.encode())
        return AuthResult(success=good, handled=False)


@contextlib.asynccontextmanager
async def served(
    postmaster: Postmaster, tls: ssl.SSLContext | None = None, *, at_once: bool = False, login: bool = False
) -> AsyncIterator[int]:
    """Its port. `tls`: by STARTTLS, or with `at_once` from the first byte on; `login`: asked for."""
    talking: list[SMTP] = []

    def protocol() -> SMTP:
        talking.append(_protocol())
        return talking[-1]

    def _protocol() -> SMTP:
        return SMTP(
            postmaster,
            hostname="localhost",
            tls_context=None if at_once else tls,
            authenticator=postmaster.authenticate if login else None,
            auth_required=login,
            auth_require_tls=not at_once,
        )

    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0, ssl=tls if at_once else None)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for one in talking:
            _break_off(one)
        await asyncio.sleep(0.01)  # for what they still do about it


def _break_off(one: SMTP) -> None:
    if isinstance(one.transport, asyncio.Transport):
        one.transport.abort()


def certificate(home: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's side of TLS, and the file that a client may trust it by."""
    from datetime import UTC, datetime, timedelta
    from ipaddress import ip_address

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, secret = home / "cert.pem", home / "key.pem"
    pem.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem, secret)
    return context, pem
