"""Logs to test with: entries as the door appends them."""

from __future__ import annotations

from typing import Any

import msgspec
import redis
import xxhash

from feature_repo import keys
from feature_repo.vocabulary import SILENT, UNKNOWN, Vocabulary
from flows.entry import Draft
from flows.store import Store

VOCABULARY = Vocabulary()
DAY = 86_400_000
START = 20_000 * DAY  # a midnight, UTC: 2024-10-04


class Log:
    """Appends calls to the partitions' logs, each append one entry, at a log time that the test chooses."""

    def __init__(self, client: redis.Redis, store: Store) -> None:
        self.client, self.store = client, store
        client.hset(keys.VOCABULARIES, str(VOCABULARY.fingerprint), VOCABULARY.codebook)

    def uid(self, name: str) -> int:
        return xxhash.xxh3_64_intdigest(name.encode(), self.store.seed)

    def append(self, at: int, *calls: dict[str, Any], history: bool = False) -> None:
        """Calls as Segment's, of the organisation acme; their time is `at` unless they say `ts` (ms)."""
        drafts: dict[int, Draft] = {}
        for call in calls:
            uid = self.uid(f"acme/{call['userId']}")
            _add(drafts.setdefault(uid % self.store.partitions, Draft()), uid, call, at, self.store.seed)
        for partition, draft in drafts.items():
            self._put(partition, draft, at, history=history)

    def join(self, at: int, anonymous: str, user: str) -> None:
        name, draft = f"acme/anon:{anonymous}", Draft()
        draft.joins.append((draft.add(self.uid(name), name.encode(), 0, at), f"acme/{user}".encode()))
        self._put(self.uid(name) % self.store.partitions, draft, at)

    def is_committed(self, partition: int) -> bool:
        """Whether the lake has all of the partition's log."""
        last: Any = self.client.xrevrange(keys.log(partition), count=1)
        return not last or self.client.get(keys.lake_position(partition)) == last[0][0]

    def _put(self, partition: int, draft: Draft, at: int, *, history: bool = False) -> None:
        fields: Any = {"e": draft.encode(VOCABULARY.fingerprint, history=history), "r": draft.encode_raw()}
        self.client.xadd(keys.log(partition), fields, id=f"{at}-*")


def track(user: str, message: str, event: str = "Document Viewed", **more: Any) -> dict[str, Any]:
    return {"type": "track", "userId": user, "messageId": message, "event": event, **more}


def _add(draft: Draft, uid: int, call: dict[str, Any], at: int, seed: int) -> None:
    told = VOCABULARY.named(call.get("event", ""))
    tag = call.get("tag") if told and call.get("tag") in told.tags else None
    silent = SILENT if call["type"] != "track" else UNKNOWN
    code = VOCABULARY.code[told.name, tag] if told else silent
    value = round(call.get("value", 0) * told.scale) if told else 0
    mid = xxhash.xxh3_64_intdigest(f"acme\0{call['messageId']}".encode(), seed)
    name = f"acme/{call['userId']}".encode()
    draft.add(uid, name, mid, call.get("ts", at), code, value, msgspec.json.encode(call))
