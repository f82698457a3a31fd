"""Segment calls into a log as the door writes them, JSON and columns alike, at a log time that the test chooses."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import redis

from feature_repo import keys
from feature_repo.vocabulary import Vocabulary
from flows.store import Store
from serving.append import Group
from serving.intake import Intake, Sender
from serving.messages import Call

DAY = 86_400_000
ORGANISATION = b"org"
_decode = msgspec.json.Decoder(Call).decode


class Posted:
    """Appends to the logs of a log-clock store."""

    def __init__(self, client: redis.Redis, store: Store, vocabulary: Vocabulary) -> None:
        self._client, self._store, self._vocabulary = client, store, vocabulary
        self._intake = Intake(vocabulary, store)
        client.hset(keys.VOCABULARIES, str(vocabulary.fingerprint), vocabulary.codebook)

    def post(self, now: int, *calls: dict[str, Any], history: bool = False) -> None:
        """One append of these calls at `now` (ms), counted as accepted."""
        group = Group()
        sender = Sender(ORGANISATION, now, group, history=history)
        for call in calls:
            raw = msgspec.json.encode(call)
            self._intake.take(_decode(raw), raw, sender)
        with self._client.pipeline(transaction=True) as pipe:
            for (p, *_), draft in group.parts():
                fields: Any = {"e": draft.encode(self._vocabulary.fingerprint, history=history)}
                pipe.xadd(keys.log(p), fields | {"r": draft.encode_raw()}, id=f"{now}-*")
                pipe.hincrby(keys.counts(p), "accepted", len(draft) - len(draft.joins))
            for name, count in group.unknown.items():
                pipe.hincrby(keys.UNKNOWN, name, count)
            pipe.execute()


def iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")


def random_calls(vocabulary: Vocabulary, rng: np.random.Generator, n: int, users: int, start: int) -> list[Any]:
    """(now, calls) in time order over 60 days: late, sent again soon and after days, unknown, telling traits, joining.

    People u0... and visitors v0..., who turn out to be one of them now and then, also twice.
    """
    at = start + np.sort(rng.integers(0, 60 * DAY, n))
    made: list[dict[str, Any]] = []
    out = []
    for i, now in enumerate(at.tolist()):
        again = made and rng.random() < 0.08
        call = made[int(rng.integers(max(0, len(made) - 200), len(made)))] if again else _call(vocabulary, rng, i, now)
        if not again and call["type"] != "identify":
            call |= _who(rng, users)
        elif not again:
            call |= {"userId": f"u{int(rng.zipf(1.5)) % users}"}
            call |= {"anonymousId": f"v{int(rng.integers(users))}"} if rng.random() < 0.5 else {}
        made.append(call)
        out.append((now, call))
    return out


def _who(rng: np.random.Generator, users: int) -> dict[str, str]:
    name = f"{int(rng.zipf(1.5)) % users}"
    return {"anonymousId": f"v{name}"} if rng.random() < 0.3 else {"userId": f"u{name}"}


def _call(vocabulary: Vocabulary, rng: np.random.Generator, i: int, now: int) -> dict[str, Any]:
    late = int(rng.integers(0, 100 * DAY)) if rng.random() < 0.1 else int(rng.integers(-3_600_000, 3_600_000))
    shared = {"messageId": f"m{i}", "timestamp": iso(now - late)}
    if rng.random() < 0.15:
        return shared | {"type": "identify", "traits": _traits(vocabulary, rng)}
    event = vocabulary.events[int(rng.integers(len(vocabulary.events)))]
    properties: dict[str, Any] = {event.value: float(rng.integers(1, 5000)) / 100} if event.value else {}
    if event.tag:
        properties |= {event.tag: str(rng.choice([*event.tags, "other"]))}
    name = event.name if rng.random() < 0.95 else "No Such Thing"
    return shared | {"type": "track", "event": name, "properties": properties}


def _traits(vocabulary: Vocabulary, rng: np.random.Generator) -> dict[str, Any]:
    values: dict[str, Any] = {
        "number": float(rng.integers(1, 9) * 1000),
        "text": f"text {int(rng.integers(4))}",
        "date": f"20{int(rng.integers(10, 20))}-0{int(rng.integers(1, 9))}-01",
    }
    told = rng.choice(len(vocabulary.traits), 2, replace=False)
    return {vocabulary.traits[t].name: values[vocabulary.traits[t].kind] for t in told.tolist()}
