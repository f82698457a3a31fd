"""One list of events for the table and for the oracle."""

from __future__ import annotations

import struct
from typing import Any, cast

import numpy as np

from feature_repo.vocabulary import PUSHED, SILENT, UNKNOWN, Vocabulary
from flows.windows import Table
from tests.flows.oracle import IDENTIFY, Oracle, Outcome
from tests.flows.streams_made import Event

VOCABULARY = Vocabulary()


def uid_of(user: str) -> int:
    """Identity of user u7 in a table of the test's own: 7."""
    return int(user[1:])


def apply(table: Table, events: list[Event]) -> None:
    """A batch as the engine applies it: events, then what they tell."""
    rows = table.rows(np.array([uid_of(e.user) for e in events], np.uint64))
    columns = (np.array([getattr(e, name) for e in events], np.int64) for name in ("code", "value", "ts", "now"))
    table.apply(rows, *columns)
    for row, event in zip(rows.tolist(), events, strict=True):
        ids, bits = (np.array([t[i] for t in event.traits], np.int64) for i in (0, 1))
        table.apply_traits(np.full(len(ids), row), ids, bits, np.full(len(ids), min(event.ts, event.now)))


def receive(oracle: Oracle, event: Event) -> Outcome:
    event_type, tag = spelled_out(event.code)
    if event.code == PUSHED:
        oracle.person(event.user)  # known from now on, whether traits were told or not
    traits = [(VOCABULARY.traits[t].name, told_value(t, bits)) for t, bits in event.traits]
    return oracle.receive(
        event.user, event.now, event.ts, event_type, message=event.mid, tag=tag, value=event.value, traits=traits
    )


def spelled_out(code: int) -> tuple[str | None, str | None]:
    """(event type, tag) of a code; None = unknown."""
    if code in {PUSHED, SILENT, UNKNOWN}:
        return (None, None) if code == UNKNOWN else (IDENTIFY, None)
    return VOCABULARY.codes[code].event, VOCABULARY.codes[code].tag


def told_value(trait: int, bits: int) -> float:
    if VOCABULARY.traits[trait].kind == "text":
        return bits
    return cast(float, struct.unpack("<d", struct.pack("<q", bits))[0])


def named(values: np.ndarray[Any, Any]) -> dict[str, float | None]:
    """Feature values by name."""
    return dict(zip(VOCABULARY.feature_index, values.tolist(), strict=True))
