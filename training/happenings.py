"""Simulated events by name, as the `Stream` that the window code works on, and rows of labels out of it."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from feature_repo.vocabulary import Vocabulary
from flows.plan import Plan
from training.backfill import Stream, features
from training.people import Array
from training.records import DAY

START = 1_672_531_200_000  # 2023-01-01, a Sunday
MISSING = 0.15  # share of people of whom a view was never pushed


class Happening(msgspec.Struct, frozen=True):
    """Events of one type: whose, on which day since the start (with its fraction), and their value, if any."""

    event: str
    person: Array
    day: Array
    value: Array | None = None


def streamed(vocabulary: Vocabulary, people: int, days: int, parts: list[Happening]) -> Stream:
    """All of them in order of time, each logged when it happened; nothing is told of anybody's traits."""
    code = np.concatenate([np.full(len(part.day), vocabulary.code[part.event, None]) for part in parts])
    person, day = (np.concatenate([getattr(part, name) for part in parts]) for name in ("person", "day"))
    value = np.concatenate([_value(vocabulary, part) for part in parts])
    order = np.argsort(day, kind="stable")
    ts = (START + day[order] * DAY).astype(np.int64)
    none = np.zeros(0, np.int64)
    events = (person[order].astype(np.int64), code[order], value[order], ts, ts)
    return Stream(people, START, START + days * DAY, *events, none, none, none, none, none)


def _value(vocabulary: Vocabulary, part: Happening) -> Array:
    scale = vocabulary.event[part.event].scale
    return np.zeros(len(part.day), np.int64) if part.value is None else np.round(part.value * scale).astype(np.int64)


def asked(vocabulary: Vocabulary, of: Stream, service: str, person: Array, day: Array) -> dict[str, Any]:
    """Columns of a file of labels: user, as_of, and the service's inputs that the stream counts."""
    at = (START + day * DAY).astype(np.int64)
    found = features(Plan(vocabulary), of, person, at)
    inputs = next(s.features for s in vocabulary.services if s.name == service)
    counted = {name: found[:, vocabulary.feature_index[name]] for name in inputs if name in vocabulary.feature_index}
    stamps = pa.array(at * 1000, pa.timestamp("us", tz="UTC"))
    return {"user": pa.array([f"user-{i}" for i in person.tolist()]), "as_of": stamps, **counted}


def pushed(view: str, values: dict[str, Array], untold: Array) -> dict[str, pa.Array]:
    """Columns of a view that outside data fills; null where `untold`."""
    return {f"{view}:{name}": pa.array(column.astype(np.float64), mask=untold) for name, column in values.items()}
