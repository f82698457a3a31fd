"""Vocabularies under which entries were written, so that entries older than the running one stay readable."""

from __future__ import annotations

import msgspec
import numpy as np
import redis

from feature_repo import keys
from feature_repo.declare import Array
from feature_repo.vocabulary import PUSHED, SILENT, UNKNOWN, Code, Vocabulary
from flows.entry import Entry


class _Codebook(msgspec.Struct):
    codes: list[Code]
    traits: list[str]


class Codebooks:
    """Maps from other numberings to the running vocabulary's. `maps[fingerprint]` is None where they agree."""

    def __init__(self, vocabulary: Vocabulary, client: redis.Redis) -> None:
        self._vocabulary = vocabulary
        self._client = client
        self.maps: dict[int, Array | None] = {vocabulary.fingerprint: None}
        self._traits: dict[int, Array] = {vocabulary.fingerprint: np.arange(len(vocabulary.traits))}
        client.hset(keys.VOCABULARIES, str(vocabulary.fingerprint), vocabulary.codebook)

    def knows(self, fingerprint: int) -> bool:
        """Whether entries of that vocabulary can be read."""
        if fingerprint not in self.maps:
            found = self._client.hget(keys.VOCABULARIES, str(fingerprint))
            if found is None:
                return False
            self._learn(fingerprint, msgspec.json.decode(found, type=_Codebook))
        return True

    def _learn(self, fingerprint: int, book: _Codebook) -> None:
        codes = np.full(1 << 16, UNKNOWN, np.uint16)
        codes[: len(book.codes)] = [self._code(code) for code in book.codes]
        codes[[PUSHED, SILENT]] = PUSHED, SILENT
        self.maps[fingerprint] = codes
        ids = self._vocabulary.trait_id
        self._traits[fingerprint] = np.array([ids.get(name, -1) for name in book.traits], np.int64)

    def _code(self, code: Code) -> int:
        known = self._vocabulary.code
        return known.get((code.event, code.tag), known.get((code.event, None), UNKNOWN))

    def traits(self, entry: Entry) -> Array:
        """Trait ids of an entry in the running vocabulary's numbers."""
        return self._traits[entry.fingerprint][entry.trait]
