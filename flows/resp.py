"""A raw connection to Redis or Valkey: packed commands out, parsed replies in, nothing between.

For the hot path, where one write carries thousands of commands; elsewhere the ordinary client will do.
"""

from __future__ import annotations

import socket
import ssl
from typing import Any

import hiredis
import msgspec

BUFFER = 1 << 20
_NOTHING = object()


class StoreError(Exception):
    """Something is wrong with Redis or Valkey; the message says what was expected and what came."""


class Lost(StoreError):
    """The connection failed, was closed or took too long: whether commands under way were done is unknown."""


class Refused(StoreError):
    """The server answered with an error. `code` is its first word: LOADING, OOM, NOSCRIPT, WRONGTYPE..."""

    @property
    def code(self) -> str:
        return str(self).partition(" ")[0]


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """Where a server listens: a unix socket's `path`, else `host` and `port`."""

    path: str = ""
    host: str = ""
    port: int = 6379
    db: int = 0
    username: str = ""
    password: str = ""
    tls: bool = False

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"


def pack(*args: str | bytes | float) -> bytes:
    """One command as RESP bytes; join several for a pipeline."""
    return hiredis.pack_command(args)  # type: ignore[arg-type]  # its types say one argument


def login(address: Address) -> list[bytes]:
    """The commands that a new connection starts with."""
    user = (address.username,) if address.username else ()
    commands = [pack("AUTH", *user, address.password)] if address.password else []
    return [*commands, pack("SELECT", address.db)] if address.db else commands


class Connection:
    """A blocking connection. Not for use by several threads at once.

    Raises Lost when the server cannot be reached or does not answer within `timeout` seconds,
    Refused when it turns the login down.
    """

    def __init__(self, address: Address, timeout: float | None = 30.0) -> None:
        self.address = address
        self._socket = _dial(address, timeout)
        self._reader = hiredis.Reader(protocolError=Lost, replyError=Refused, notEnoughData=_NOTHING)
        self._buffer = bytearray(BUFFER)
        for command in login(address):
            self.call(command)

    def send(self, data: bytes | bytearray | memoryview) -> None:
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise Lost(f"{self.address}: {error}") from error

    def read(self) -> Any:
        """The next reply. A reply that is an error is raised; inside an array it stands as a `Refused`."""
        reply = self._reader.gets()
        while reply is _NOTHING:
            self._receive()
            reply = self._reader.gets()
        if isinstance(reply, Refused):
            raise reply
        return reply

    def call(self, data: bytes) -> Any:
        """Sends one packed command and reads its reply."""
        self.send(data)
        return self.read()

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def _receive(self) -> None:
        try:
            count = self._socket.recv_into(self._buffer)
        except OSError as error:
            raise Lost(f"{self.address}: {error}") from error
        if not count:
            raise Lost(f"{self.address}: the server closed the connection")
        self._reader.feed(self._buffer, 0, count)  # type: ignore[arg-type]  # it takes any buffer


def _dial(address: Address, timeout: float | None) -> socket.socket:
    try:
        return _unix(address.path, timeout) if address.path else _tcp(address, timeout)
    except OSError as error:
        raise Lost(f"cannot connect to {address}: {error}") from error


def _unix(path: str, timeout: float | None) -> socket.socket:
    plain = socket.socket(socket.AF_UNIX)
    plain.settimeout(timeout)
    try:
        plain.connect(path)
    except OSError:
        plain.close()
        raise
    return plain


def _tcp(address: Address, timeout: float | None) -> socket.socket:
    plain = socket.create_connection((address.host, address.port), timeout)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if not address.tls:
        return plain
    return ssl.create_default_context().wrap_socket(plain, server_hostname=address.host)
