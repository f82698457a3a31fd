"""What the stream last scored of a person, beside their features, written with them.

Private fields of Feast's hash, which Feast does not ask for: `_scores`, and `_scores1`... where more than SIX models
alert. Value: fingerprint of the models, their versions and calibrations (uint32, see `keys.SCORE_SETS`), when (int64
ms), then of each model raw and calibrated score (float32 each, NaN = none). At most 60 bytes, since one of more than 64
would double the hash. Empty: never scored.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import msgspec
import numpy as np
import redis
import xxhash

from feature_repo import keys
from feature_repo.declare import Array
from flows.scoring import Evaluated
from onnx_models.session import Model

SIX = 6  # models a field
_HEAD = struct.Struct("<Iq")
_PAIR = np.dtype("<f4")


class Member(msgspec.Struct, array_like=True, frozen=True):
    """A model of a set; its version is empty where it did not score. `calibration`: 0: the version's own."""

    model: str
    version: str
    calibration: int = 0


class Last(msgspec.Struct, frozen=True):
    """A model's last score. `at`: ms since 1970."""

    model: str
    version: str
    at: int
    raw: float
    calibrated: float
    calibration: int = 0


class Scored(msgspec.Struct):
    """Of n people: sets uint32 (n,), values float32 (n, models, 2), NaN = none; `fields`: packed, as in an HSET."""

    sets: Array
    values: Array
    fields: list[bytes]


class LastScores:
    """Of the models of `services`, in their order."""

    def __init__(self, services: Sequence[str], client: redis.Redis) -> None:
        self._services, self._client = services, client
        self.names = names(len(services))
        self._models: dict[str, Model] | None = None
        self._sets: dict[tuple[int, ...], int] = {}  # of these models, by the calibrations' numbers

    def of(self, evaluated: Evaluated, now: Array) -> Scored:
        """What to write of everybody who was scored; `now`: ms (n,). Tells the store of models that are new."""
        n = len(evaluated.rows)
        values = np.full((n, len(self._services), 2), np.nan, np.float32)
        for i, name in enumerate(self._services):
            if name in evaluated.scores:
                values[:, i] = np.stack(evaluated.scores[name], axis=1)
        asked = ~np.isnan(values).all(axis=(1, 2))
        if not asked.any():
            return Scored(np.zeros(n, np.uint32), values, [b""] * n)
        sets, found = self._sets_of(evaluated), np.where(asked)[0]
        packed = self._packed(sets[found], now[found], values[found])
        if len(found) == n:
            return Scored(sets, values, packed)
        fields = [b""] * n
        for at, field in zip(found.tolist(), packed, strict=True):
            fields[at] = field
        return Scored(sets, values, fields)

    def _sets_of(self, evaluated: Evaluated) -> Array:
        """Under which set each row's scores stand: uint32 (n,)."""
        n = len(evaluated.rows)
        if evaluated.models is not self._models:
            self._sets, self._models = {}, evaluated.models
        by = evaluated.recalibrated
        if by is None:
            return np.full(n, self._set(evaluated.models, (0,) * len(self._services)), np.uint32)
        sets = np.zeros(int(by.code.max(initial=0)) + 1, np.uint32)
        for code in np.flatnonzero(np.bincount(by.code)).tolist():
            numbers = [int(by.numbers[name][code]) if name in by.numbers else 0 for name in self._services]
            sets[code] = self._set(evaluated.models, tuple(numbers))
        return sets[by.code]

    def _set(self, models: dict[str, Model], numbers: tuple[int, ...]) -> int:
        """Told to the store where it is new."""
        if numbers not in self._sets:
            versions = [models[name].version if name in models else "" for name in self._services]
            told = msgspec.json.encode(list(map(Member, self._services, versions, numbers)))
            self._client.hset(keys.SCORE_SETS, str(xxhash.xxh32_intdigest(told)), told)
            self._sets[numbers] = xxhash.xxh32_intdigest(told)
        return self._sets[numbers]

    def _packed(self, sets: Array, now: Array, values: Array) -> list[bytes]:
        """Names and values of the fields as they stand in each person's HSET."""
        columns = [column for i in range(len(self.names)) for column in self._columns(i, sets, now, values)]
        kind = np.dtype([(f"{i}", column.dtype, column.shape[1:]) for i, column in enumerate(columns)])
        rows = np.empty(len(now), kind)
        for i, column in enumerate(columns):
            rows[f"{i}"] = column
        return rows.view(f"V{kind.itemsize}").tolist()

    def _columns(self, field: int, sets: Array, now: Array, values: Array) -> list[Array]:
        """The parts of one field, (n, ...) or one for all."""
        pairs = values[:, field * SIX : (field + 1) * SIX].reshape(len(now), -1).astype(_PAIR)
        name, size = self.names[field], _HEAD.size + pairs.shape[1] * _PAIR.itemsize
        before = b"$%d\r\n%b\r\n$%d\r\n" % (len(name), name, size)
        return [_same(before), sets.astype("<u4"), now.astype("<i8"), pairs, _same(b"\r\n")]


def _same(data: bytes) -> Array:
    return np.frombuffer(data, f"V{len(data)}")


def names(models: int) -> list[bytes]:
    """The fields that hold so many models' scores."""
    return [b"_scores%b" % (str(i).encode() if i else b"") for i in range(-(-models // SIX))]


def read(fields: Sequence[bytes | None], sets: dict[int, list[Member]]) -> list[Last]:
    """The scores in the fields of `names`; `sets` by fingerprint. Of a set that is not known nothing can be said."""
    found = []
    for field, value in enumerate(fields):
        if not value or not is_whole(value):
            continue
        set_, at = _HEAD.unpack_from(value)
        pairs = np.frombuffer(value, _PAIR, offset=_HEAD.size).reshape(-1, 2).tolist()
        members = sets.get(set_, [])[field * SIX : (field + 1) * SIX]
        found += [
            Last(m.model, m.version, at, raw, calibrated, m.calibration)
            for m, (raw, calibrated) in zip(members, pairs, strict=False)
            if m.version
        ]
    return found


def is_whole(value: bytes) -> bool:
    """Whether it is one of ours, as far as its length says."""
    return len(value) >= _HEAD.size and (len(value) - _HEAD.size) % (2 * _PAIR.itemsize) == 0


def set_of(value: bytes) -> int:
    """Under which set a field was written."""
    return int(_HEAD.unpack_from(value)[0])


def members(told: bytes | None) -> list[Member]:
    """The models of a set as the store has it."""
    return msgspec.json.decode(told, type=list[Member]) if told else []
