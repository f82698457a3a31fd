"""A simulated history as Segment calls: JSON, in order of time, with a messageId that is the same in every run."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from feature_repo.events import EVENTS, TRAITS
from training.people import Array
from training.simulate import History
from training.world import TAGS, TEXT_TRAITS, TYPES
from training.world import TRAITS as TOLD

_EVENT = {event.name: event for event in EVENTS}
_DATES = {trait.name for trait in TRAITS if trait.kind == "date"}
encode = msgspec.json.encode


class Feed:
    """The calls of one history. `ts` (n,) is each call's time in ms; `calls(low, high)` their JSON."""

    def __init__(self, history: History, name: str) -> None:
        self._history = history
        self._name = name
        identified, self._traits = _identifies(history)
        kinds = np.concatenate([np.zeros(len(identified), bool), np.ones(len(history.events), bool)])
        ts = np.concatenate([identified, history.events.ts])
        order = np.argsort(ts, kind="stable")
        self.ts: Array = ts[order]
        self._is_event = kinds[order]
        self._at = np.where(kinds, np.arange(len(ts)) - len(identified), np.arange(len(ts)))[order]
        self._shapes = [_shape(name) for name in TYPES]

    def __len__(self) -> int:
        return len(self.ts)

    def calls(self, low: int, high: int) -> list[bytes]:
        times = np.datetime_as_string(self.ts[low:high].astype("M8[ms]")).tolist()
        columns = zip(self._is_event[low:high].tolist(), self._at[low:high].tolist(), times, strict=True)
        return [self._track(at, when) if event else self._identify(at, when) for event, at, when in columns]

    def _track(self, at: int, when: str) -> bytes:
        events = self._history.events
        head, value, tag = self._shapes[int(events.type[at])]
        properties = ""
        if value:
            properties = f'"{value}":{float(events.value[at])}'
        elif tag and events.tag[at] >= 0:
            properties = f'"{tag}":"{TAGS[events.tag[at]]}"'
        return (
            f'{head}"messageId":"{self._name}-{self._history.message[at]}","userId":"{user(events.person[at])}",'
            f'"timestamp":"{when}Z","properties":{{{properties}}}}}'
        ).encode()

    def _identify(self, at: int, when: str) -> bytes:
        person, traits = self._traits[at]
        return encode(
            {
                "type": "identify",
                "messageId": f"{self._name}-i{at}",
                "userId": user(person),
                "timestamp": f"{when}Z",
                "traits": traits,
            }
        )


def user(person: int) -> str:
    return f"person-{person:06d}"


def _shape(name: str) -> tuple[str, str | None, str | None]:
    """(beginning of the JSON, name of the value's property, name of the tag's)."""
    event = _EVENT[name]
    return f'{{"type":"track","event":"{event.segment[0]}",', event.value, event.tag


def _identifies(history: History) -> tuple[Array, list[tuple[int, dict[str, Any]]]]:
    """Times, and (person, traits) of each identify call: what one person tells at one moment is one call."""
    told = history.told
    calls: dict[tuple[int, int], dict[str, Any]] = {}
    columns = (told.ts.tolist(), told.person.tolist(), told.trait.tolist(), told.value.tolist())
    for ts, person, trait, value in zip(*columns, strict=True):
        calls.setdefault((ts, person), {})[TOLD[trait]] = _spoken(TOLD[trait], value)
    return np.array([ts for ts, _ in calls], np.int64), [(person, traits) for (_, person), traits in calls.items()]


def _spoken(trait: str, value: float) -> str | float:
    if trait in TEXT_TRAITS:
        return f"{trait} {value:.0f}"
    return f"{np.datetime64(int(value), 'ms')}Z" if trait in _DATES else value
