"""Columns of events while they are being made."""

from __future__ import annotations

import msgspec
import numpy as np

from training.people import Array

MINUTE = 60_000
DAY = 86_400_000


class Records(msgspec.Struct, frozen=True):
    """Equal lengths. `tag` -1 = none; `value` NaN = none; `ts` in ms since the start (later: since 1970)."""

    person: Array
    type: Array
    tag: Array
    value: Array
    ts: Array

    def __len__(self) -> int:
        return len(self.person)

    def __add__(self, other: Records) -> Records:
        return join([self, other])

    def take(self, rows: Array) -> Records:
        return Records(*(getattr(self, name)[rows] for name in self.__struct_fields__))


def records(
    person: Array, kind: Array | int, ts: Array, tag: Array | int = -1, value: Array | float = np.nan
) -> Records:
    def column(of: Array | float, dtype: type) -> Array:
        return np.broadcast_to(of, person.shape).astype(dtype)

    return Records(
        column(person, np.int32),
        column(kind, np.int8),
        column(tag, np.int8),
        column(value, np.float64),
        ts.astype(np.int64),
    )


def join(parts: list[Records]) -> Records:
    names = Records.__struct_fields__
    return Records(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def in_order(of: Records, end: int) -> Records:
    """Those within [0, end), by time; ties stay in the order in which they were made."""
    rows = np.flatnonzero((of.ts >= 0) & (of.ts < end))
    return of.take(rows[np.argsort(of.ts[rows], kind="stable")])
