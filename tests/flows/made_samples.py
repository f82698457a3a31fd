"""Features and scores as a flush hands them to the lake."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import redis

from feature_repo import keys
from feature_repo.vocabulary import Vocabulary
from flows import served
from flows.learning_lake import EVERY_DAYS
from flows.scored import Member
from flows.served import ServedRows
from flows.state import identity
from flows.store import Store
from tests.flows.made_models import VERSION
from tests.flows.made_outcomes import DAY

SET = 7


def sampled(store: Store, day: int, n: int) -> list[str]:
    """Of u0, u1... the first n whose day it is (ms)."""
    found = list[str]()
    for k in range(n * 100):
        uid = identity(store, f"org/u{k}".encode())
        if ((uid >> 8) % EVERY_DAYS + day // DAY) % EVERY_DAYS == 0 and len(found) < n:
            found.append(f"u{k}")
    return found


def flush(client: redis.Redis, store: Store, vocabulary: Vocabulary, at: int, whose: Mapping[str, int]) -> None:
    """At `at` (ms) of these users, with the time of each (ms); all models scored them."""
    models = [service.name for service in vocabulary.services if service.alert]
    client.hset(keys.SCORE_SETS, str(SET), msgspec.json.encode([Member(model, VERSION) for model in models]))
    client.hset(keys.FEATURE_SETS, str(SET), msgspec.json.encode(served.names(vocabulary)))
    parts: dict[int, list[str]] = {}
    for user in whose:
        parts.setdefault(identity(store, f"org/{user}".encode()) % store.partitions, []).append(user)
    for partition, users in parts.items():
        names = [f"org/{user}".encode() for user in users]
        rows = ServedRows(
            position=f"{at}-0".encode(),
            feature_set=SET,
            uid=np.array([identity(store, name) for name in names], np.uint64),
            now=np.array([whose[user] for user in users]),
            values=np.ones((len(users), len(vocabulary.features))),
            names=names,
            score_set=SET,
            scores=np.full((len(users), len(models), 2), 0.25, np.float32),
        )
        body, scores = served._encode(SET, rows), served._encode_scores(rows)
        fields: Any = {"n": len(users), "p": rows.position, "f": body, "s": scores}
        client.xadd(keys.served(partition), fields, id=f"{at}-*")
