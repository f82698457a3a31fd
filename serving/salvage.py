"""Takes apart a batch that as a whole is no JSON (NaN, bad UTF-8, nested too deep), so that its good calls live."""

from __future__ import annotations

import re
from itertools import islice

# A string without an end is one token too: searched for its end again from each quote in it, it would take for ever.
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[\[\]{},:]', re.DOTALL)
MAX_TOKENS = 200_000  # of a batch that is worth the time
_OPENS, _CLOSES = frozenset(b"[{"), frozenset(b"]}")


def split(body: bytes) -> tuple[bytes, list[bytes]] | None:
    """(the batch without its calls, the JSON of each call), unchecked.

    None where even the brackets do not match, and where there are too many.
    """
    start = _start(body)
    if start is None:
        return None
    calls, depth, begin = [], 1, start
    for token in islice(_TOKEN.finditer(body, start), MAX_TOKENS):
        first = token[0][0]
        depth += (first in _OPENS) - (first in _CLOSES)
        if depth == 0 or (depth == 1 and token[0] == b","):
            calls.append(body[begin : token.start()].strip())
            begin = token.end()
        if depth == 0:
            return body[:start] + body[token.start() :], [] if calls == [b""] else calls
    return None


def _start(body: bytes) -> int | None:
    """Where the array of the top-level key `batch` begins."""
    depth, last = 0, [b"", b""]
    for token in islice(_TOKEN.finditer(body), MAX_TOKENS):
        if depth == 1 and token[0] == b"[" and last == [b'"batch"', b":"]:
            return token.end()
        depth += (token[0][0] in _OPENS) - (token[0][0] in _CLOSES)
        last = [last[1], token[0]]
    return None
