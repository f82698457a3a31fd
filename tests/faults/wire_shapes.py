"""Requests that are framed wrong, or too large: each must be refused, and nothing of it counted."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator

import msgspec

from serving.deadlines import HEAD_BYTES
from serving.messages import BATCH_BYTES, BATCH_EVENTS, EVENT_BYTES

Head = Callable[..., bytes]  # of a POST, with further lines
EVENT = b'{"userId":"evil","event":"Document Viewed"}'
N = len(EVENT)
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (N, EVENT)
CL, TE = b"content-length: %d" % N, b"transfer-encoding: chunked"


def head(login: str, *lines: bytes, path: bytes = b"/v1/track") -> bytes:
    told = b"authorization: " + login.encode(), b"content-type: application/json"
    return b"POST %b HTTP/1.1\r\nhost: x\r\n%b\r\n\r\n" % (path, b"\r\n".join((*told, *lines)))


def malformed(login: str) -> dict[str, bytes]:
    """By name. Most could be read in two ways, by us and by a proxy before us."""

    def h(*lines: bytes) -> bytes:
        return head(login, *lines)

    good = h(CL) + EVENT
    lengths = (b"+%d" % N, b"-%d" % N, b"0x2b", b"%d, %d" % (N, N), b"9" * 23, b"", b"4 3")
    codings = (b"xchunked", b"chunked, identity", b"identity", b"\x0bchunked", b'"chunked"', b"chunked\x00")
    sizes = (b"-2b", b"0x2b", b"+2b", b"2b ", b"f" * 17, b"2a", b"2c", b"", b"g")
    return {
        "a length before a coding": h(b"content-length: %d" % len(CHUNKED), TE) + CHUNKED,
        "a coding before a length": h(TE, b"content-length: 5") + b"0\r\n\r\n" + good,
        "two lengths": h(CL, b"content-length: 5") + EVENT,
        "one length twice": h(CL, CL) + EVENT,
        "one coding twice": h(TE, TE) + CHUNKED,
        "a blank before a colon": h(b"transfer-encoding : chunked") + CHUNKED,
        "a length with a blank before its colon": h(b"content-length : %d" % N) + EVENT,
        "no carriage returns": good.replace(b"\r\n", b"\n"),
        "no line feeds": good.replace(b"\r\n", b"\r"),
        "chunks without carriage returns": h(TE) + CHUNKED.replace(b"\r\n", b"\n"),
        "a folded line": h(b"x: a\r\n b", CL) + EVENT,
        "a NUL in a header": h(b"x: a\0b", CL) + EVENT,
        "a blank in a name": h(b"x y: a", CL) + EVENT,
        "no name": h(b": a", CL) + EVENT,
        "another version": good.replace(b"HTTP/1.1", b"HTTP/1.2"),
        "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "a method in small letters": good.replace(b"POST", b"post"),
        "a blank in a path": good.replace(b"/v1/track", b"/v1/tr ack"),
        **{f"the length {length!r}": h(b"content-length: " + length) + EVENT for length in lengths},
        **{f"the coding {coding!r}": h(b"transfer-encoding: " + coding) + CHUNKED for coding in codings},
        **{f"a chunk of {size!r}": h(TE) + b"%b\r\n%b\r\n0\r\n\r\n" % (size, EVENT) for size in sizes},
    }


def oversized(login: str) -> dict[str, Iterator[bytes]]:
    """By name, in pieces."""

    def sent(body: bytes, path: bytes, *lines: bytes) -> Iterator[bytes]:
        return iter([head(login, b"content-length: %d" % len(body), *lines, path=path), body])

    def chunks() -> Iterator[bytes]:
        yield head(login, TE, path=b"/v1/batch")
        while True:
            yield b"10000\r\n" + b"[" * 0x10000 + b"\r\n"

    def headers() -> Iterator[bytes]:
        yield b"POST /v1/track HTTP/1.1\r\nhost: x\r\n"
        for _ in range(HEAD_BYTES // 1024 + 1):
            yield b"x: " + b"a" * 1020 + b"\r\n"

    packed = b"content-encoding: gzip"
    padded = msgspec.json.encode({"userId": "evil", "event": "e", "properties": {"x": "y" * EVENT_BYTES}})
    calls = [{"type": "track", "userId": "evil", "event": "Document Viewed"}] * (BATCH_EVENTS + 1)
    return {
        "an event": sent(padded, b"/v1/track"),
        "an event in a batch": sent(b'{"batch":[' + padded.replace(b"{", b'{"type":"track",', 1) + b"]}", b"/v1/batch"),
        "a batch": sent(b'{"batch":["' + b"x" * BATCH_BYTES + b'"]}', b"/v1/batch"),
        "a batch of too many": sent(msgspec.json.encode({"batch": calls}), b"/v1/batch"),
        "a bomb": sent(gzip.compress(b"[" * (8 << 20)), b"/v1/batch", packed),
        "a bomb in a bomb": sent(gzip.compress(gzip.compress(b"0" * (8 << 20))), b"/v1/batch", packed),
        "two members": sent(gzip.compress(EVENT) * 2, b"/v1/track", packed),
        "a body that is announced": iter([head(login, b"content-length: 99999999999", path=b"/v1/batch")]),
        "chunks without end": chunks(),
        "headers without end": headers(),
        "a path without end": iter([b"GET /" + b"a" * (2 * HEAD_BYTES)]),
        "brackets without end": sent(b"[" * BATCH_BYTES, b"/v1/batch"),
        "objects without end": sent(b'{"batch":' * (BATCH_BYTES // 9), b"/v1/batch"),
        "a number without end": sent(b'{"batch":[' + b"9" * 400_000 + b"]}", b"/v1/batch"),
    }
