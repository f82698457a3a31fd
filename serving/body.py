"""Reads a request's body within limits: its type, its compression, its size."""

from __future__ import annotations

import zlib

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope

from serving.errors import ApiError, too_large

KINDS = (b"application/json", b"text/plain", b"")  # text/plain: what a browser may post without asking first


HUNG_UP = 499  # counted where no answer began
PATIENCE = 16 << 20  # bytes of a body far too large that are read before the connection is closed


class Gone(Exception):
    """The client hung up before the body was complete."""


async def hung_up(request: Request, error: Exception) -> Response:
    """For the app: to a client that is gone nobody answers."""
    return Response(status_code=HUNG_UP)


def headers_of(scope: Scope) -> dict[bytes, bytes]:
    """Header values by lower-case name; of several, the last."""
    return dict(scope["headers"])


async def read_json(headers: dict[bytes, bytes], receive: Receive, most: int) -> bytes:
    """The body, unpacked, at most `most` bytes. Raises ApiError 400, 413 or 415, and Gone."""
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind not in KINDS:
        raise ApiError(415, f"expected application/json, not {kind.decode('latin-1')[:100]}", "Content-Type")
    return await read_body(headers, receive, most)


async def read_body(headers: dict[bytes, bytes], receive: Receive, most: int) -> bytes:
    """The same of any type."""
    coding = headers.get(b"content-encoding", b"identity").lower()
    if coding not in (b"identity", b"gzip"):
        raise ApiError(415, f"expected gzip or nothing, not {coding.decode('latin-1')[:100]}", "Content-Encoding")
    body = await _read(headers, receive, most)
    return body if coding == b"identity" else unzip(body, most)


async def _read(headers: dict[bytes, bytes], receive: Receive, most: int) -> bytes:
    length = headers.get(b"content-length", b"0")[:20]
    if length.isdigit() and int(length) > PATIENCE:
        raise too_large(most, close=True)
    message = await receive()
    body, size = message.get("body", b""), 0
    while message.get("more_body"):
        message = await receive()
        if len(body) > most:  # read on, so that the client reads our answer, but keep nothing
            size, body = size + len(body), b""
        if size > PATIENCE:
            raise too_large(most, close=True)
        body += message.get("body", b"")
    if message["type"] == "http.disconnect":
        raise Gone
    if size + len(body) > most:
        raise too_large(most)
    return bytes(body)


def unzip(body: bytes, most: int) -> bytes:
    """One gzip member of at most `most` bytes unpacked; a bomb is never unpacked further. Raises ApiError."""
    unpacker = zlib.decompressobj(wbits=31)
    try:
        plain = unpacker.decompress(body, most + 1)
    except zlib.error as error:
        raise ApiError(400, f"expected a gzip body: {error}", "Content-Encoding") from None
    if len(plain) > most:
        raise too_large(most)
    if not unpacker.eof or unpacker.unused_data:
        raise ApiError(400, "expected one whole gzip member, got a part or more", "Content-Encoding")
    return plain
