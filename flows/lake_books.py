"""What event numbers mean, by the fingerprint under which an entry was written."""

from __future__ import annotations

from typing import Any

import redis

from feature_repo import keys
from flows.lake_rows import Codebook, book


class Books:
    """Asks the store once for each fingerprint."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self._known: dict[int, Codebook] = {}

    def of(self, fingerprint: int) -> Codebook:
        if fingerprint not in self._known:
            found: Any = self.client.hget(keys.VOCABULARIES, str(fingerprint))
            self._known[fingerprint] = book(found)
        return self._known[fingerprint]
