"""Ids of predictions, which say of themselves whether they are ours: nothing has to be looked up.

`MODEL-TOKEN`, of many at once `MODEL-TOKEN.INDEX`. The token is base64url of: ms since 1970 (6 bytes), what no two
requests share (6), how many were answered at once (2; 0: one alone), and a keyed hash over all this, the model and the
organisation (8).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import itertools
import os

import msgspec

_HASH = 8
_TOKEN = 22
_MS, _OWN = 6, 6


class PredictionId(msgspec.Struct, frozen=True):
    """What an id says. `at`: ms since 1970."""

    model: str
    at: int
    index: int


class PredictionIds:
    """Of one store; `seed` is its own."""

    def __init__(self, seed: int) -> None:
        self._key = seed.to_bytes(8, "little")
        self._process = os.urandom(3)
        self._next = itertools.count(int.from_bytes(os.urandom(3), "big"))

    def issue(self, organisation: bytes, model: str, at: int, count: int = 0) -> str:
        """An id at `at` (ms); of `count` answers at once, what stands before `.INDEX`."""
        own = self._process + (next(self._next) & 0xFFFFFF).to_bytes(3, "big")
        said = at.to_bytes(_MS, "big") + own + count.to_bytes(2, "big")
        return f"{model}-{_spelled(said + self._hash(said, organisation, model))}"

    def read(self, organisation: bytes, text: str) -> PredictionId | None:
        """What an id says, if this organisation was given it; else None."""
        model, _, rest = text.partition("-")
        token, dot, index = rest.partition(".")
        try:
            raw = base64.b64decode(token + "==", altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        said, hashed = raw[:-_HASH], raw[-_HASH:]
        if len(raw) != _TOKEN or _spelled(raw) != token or hashed != self._hash(said, organisation, model):
            return None
        count = int.from_bytes(said[-2:], "big")
        if bool(count) != bool(dot) or (dot and index not in map(str, range(count))):
            return None
        return PredictionId(model, int.from_bytes(said[:_MS], "big"), int(index or 0))

    def _hash(self, said: bytes, organisation: bytes, model: str) -> bytes:
        text = b"\0".join((organisation, model.encode(errors="surrogatepass")))
        return hashlib.blake2b(said + text, digest_size=_HASH, key=self._key).digest()


def _spelled(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
