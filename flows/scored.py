"""What the stream last scored of a person, beside their features, written with them.

Private fields of Feast's hash, which Feast does not ask for: `_scores`, and `_scores1`... where more than SIX models
alert. Value: fingerprint of the models and versions (uint32, see `keys.SCORE_SETS`), when (int64 ms), then of each
model raw and calibrated score (float32 each, NaN = none). At most 60 bytes, since one of more than 64 would double the
hash. Empty: never scored.
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
    """A model of a set; its version is empty where it did not score."""

    model: str
    version: str


class Last(msgspec.Struct, frozen=True):
    """A model's last score. `at`: ms since 1970."""

    model: str
    version: str
    at: int
    raw: float
    calibrated: float


class Scored(msgspec.Struct):
    """Of n people: values float32 (n, models, 2), NaN = none, under a set; `fields`: packed, as in each one's HSET."""

    set: int
    values: Array
    fields: list[bytes]


class LastScores:
    """Of the models of `services`, in their order."""

    def __init__(self, services: Sequence[str], client: redis.Redis) -> None:
        self._services, self._client = services, client
        self.names = names(len(services))
        self._models: dict[str, Model] | None = None
        self._set = 0

    def of(self, evaluated: Evaluated, now: Array) -> Scored:
        """What to write of everybody who was scored; `now`: ms (n,). Tells the store of models that are new."""
        n = len(evaluated.rows)
        values = np.full((n, len(self._services), 2), np.nan, np.float32)
        for i, name in enumerate(self._services):
            if name in evaluated.scores:
                values[:, i] = np.stack(evaluated.scores[name], axis=1)
        asked = ~np.isnan(values).all(axis=(1, 2))
        if not asked.any():
            return Scored(0, values, [b""] * n)
        if evaluated.models is not self._models:
            self._register(evaluated.models)
        found = np.where(asked)[0]
        packed = self._packed(now[found], values[found])
        if len(found) == n:
            return Scored(self._set, values, packed)
        fields = [b""] * n
        for at, field in zip(found.tolist(), packed, strict=True):
            fields[at] = field
        return Scored(self._set, values, fields)

    def _register(self, models: dict[str, Model]) -> None:
        members = [Member(name, models[name].version if name in models else "") for name in self._services]
        told = msgspec.json.encode(members)
        self._set = xxhash.xxh32_intdigest(told)
        self._client.hset(keys.SCORE_SETS, str(self._set), told)
        self._models = models

    def _packed(self, now: Array, values: Array) -> list[bytes]:
        """Names and values of the fields as they stand in each person's HSET."""
        columns = [column for i in range(len(self.names)) for column in self._columns(i, now, values)]
        kind = np.dtype([(f"{i}", column.dtype, column.shape[1:]) for i, column in enumerate(columns)])
        rows = np.empty(len(now), kind)
        for i, column in enumerate(columns):
            rows[f"{i}"] = column
        return rows.view(f"V{kind.itemsize}").tolist()

    def _columns(self, field: int, now: Array, values: Array) -> list[Array]:
        """The parts of one field, (n, ...) or one for all."""
        pairs = values[:, field * SIX : (field + 1) * SIX].reshape(len(now), -1).astype(_PAIR)
        name, size = self.names[field], _HEAD.size + pairs.shape[1] * _PAIR.itemsize
        before = b"$%d\r\n%b\r\n$%d\r\n%b" % (len(name), name, size, self._set.to_bytes(4, "little"))
        return [_same(before), now.astype("<i8"), pairs, _same(b"\r\n")]


def _same(data: bytes) -> Array:
    return np.frombuffer(data, f"V{len(data)}")


def names(models: int) -> list[bytes]:
    """The fields that hold so many models' scores."""
    return [b"_scores%b" % (str(i).encode() if i else b"") for i in range(-(-models // SIX))]


def read(fields: Sequence[bytes | None], sets: dict[int, list[Member]]) -> list[Last]:
    """The scores in the fields of `names`; `sets` by fingerprint. Of a set that is not known nothing can be said."""
    found = []
    for field, value in enumerate(fields):
        if not value:
            continue
        set_, at = _HEAD.unpack_from(value)
        pairs = np.frombuffer(value, _PAIR, offset=_HEAD.size).reshape(-1, 2).tolist()
        members = sets.get(set_, [])[field * SIX : (field + 1) * SIX]
        found += [Last(m.model, m.version, at, *pair) for m, pair in zip(members, pairs, strict=False) if m.version]
    return found


def set_of(value: bytes) -> int:
    """Under which set a field was written."""
    return int(_HEAD.unpack_from(value)[0])


def members(told: bytes | None) -> list[Member]:
    """The models of a set as the store has it."""
    return msgspec.json.decode(told, type=list[Member]) if told else []
