"""A trait's value as 64 bits: the one way in which the door, the stream and the training data keep it."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
import numpy as np
import xxhash

from feature_repo.declare import Trait
from feature_repo.moments import milliseconds

MOST = 1e30  # of a number, either way: models take 32-bit floats, to which 1e39 is infinite


def bits(trait: Trait, value: Any) -> int:
    """As int64: a finite double (numbers; dates in ms since 1970), or a text's fingerprint.

    Raises ValueError that says what is expected.
    """
    if trait.kind == "text":
        return _fingerprint(value)
    number = _date(value) if trait.kind == "date" else _number(value)
    return int(struct.unpack("<q", struct.pack("<d", number + 0.0))[0])  # + 0.0: -0.0 is no other value


def bits_of(trait: Trait, values: Sequence[Any]) -> list[int | None]:
    """The same of many at once; None of None. Raises ValueError."""
    if trait.kind == "number" and set(map(type, values)) == {float}:
        numbers = np.array(values, np.float64)
        if (np.abs(numbers) <= MOST).all():
            found: list[int | None] = (numbers + 0.0).view(np.int64).tolist()
            return found
    return [None if value is None else bits(trait, value) for value in values]


def _fingerprint(value: Any) -> int:
    text = value if isinstance(value, str) else msgspec.json.encode(value, order="deterministic").decode()
    return xxhash.xxh3_64_intdigest(text.strip().lower().encode()) & 0x7FFF_FFFF_FFFF_FFFF


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not abs(value) <= MOST:
        raise ValueError(f"expected a number of at most {MOST:g} either way, got {value!r:.60}")
    return float(value)


def _date(value: Any) -> float:
    try:
        return float(milliseconds(datetime.fromisoformat(value)))
    except (TypeError, ValueError):
        raise ValueError(f"expected an ISO 8601 date, got {value!r:.60}") from None
