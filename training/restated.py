"""What today's vocabulary makes of calls as they were sent, whatever was known of them when they came."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from feature_repo.traits import bits
from feature_repo.vocabulary import UNKNOWN, Vocabulary
from flows import push
from training.people import Array

MOST = 1 << 40  # of an event's value x scale: the door takes none beyond


class _Track(msgspec.Struct):
    event: str | None = None
    properties: Any = None


class _Identify(msgspec.Struct):
    traits: Any = None


class Restated:
    """Reads the JSON of calls under one vocabulary."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._track = msgspec.json.Decoder(_Track).decode
        self._identify = msgspec.json.Decoder(_Identify).decode

    def events(self, texts: list[str]) -> Array:
        """Of `track` calls: event codes (UNKNOWN: none) and values in fixed point, int64 (2, n)."""
        return np.array([self._event(text) for text in texts], np.int64).reshape(-1, 2).T

    def _event(self, text: str) -> tuple[int, int]:
        try:
            call = self._track(text)
        except msgspec.MsgspecError:
            return UNKNOWN, 0
        event = self._vocabulary.named(call.event or "")
        if event is None:
            return UNKNOWN, 0
        given = call.properties if isinstance(call.properties, dict) else {}
        tag, value = given.get(event.tag or ""), given.get(event.value or "")
        word = tag.strip().lower() if isinstance(tag, str) else None
        spelled = next((each for each in event.tags if each.lower() == word), None)
        number = value if isinstance(value, int | float) and not isinstance(value, bool) else -1
        fixed = round(number * event.scale) if 0 <= number <= MOST / event.scale else 0
        return self._vocabulary.code[event.name, spelled], fixed

    def traits(self, type_: str, text: str) -> list[tuple[int, int]]:
        """(trait id, bits) of each known trait that an `identify` or a `push` tells."""
        told = self._told(type_, text)
        found = []
        for i, trait in enumerate(self._vocabulary.traits):
            try:
                if (value := told.get(trait.name)) is not None:
                    found.append((i, bits(trait, value)))
            except ValueError:  # the door does not take it today
                continue
        return found

    def _told(self, type_: str, text: str) -> dict[str, Any]:
        try:
            if type_ == "push":
                return dict(push.traits(self._vocabulary, push.decode(text)))
            found = self._identify(text).traits
        except msgspec.MsgspecError:
            return {}
        return found if isinstance(found, dict) else {}
