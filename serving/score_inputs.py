"""A model's inputs: how a request may name them, where they are stored, and what the store's replies say of them."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from feature_repo.declare import Array, Entity, Service
from feature_repo.layout import DOUBLE, double, read_value
from feature_repo.vocabulary import Vocabulary
from onnx_models.session import Model
from serving.errors import MAX_SHOWN, ApiError
from serving.feast_messages import FeaturesRequest
from serving.feast_shape import Group, Part, Row, Shapes
from serving.feast_value import micros

LARGEST = float(np.finfo(np.float32).max)
_CELL = np.dtype([("tag", "u1"), ("value", "<f8")])  # a double in Feast's bytes
_NAN = double(float("nan"))


class Read(msgspec.Struct, frozen=True):
    """Of n rows: values float64 (n, stored), NaN = not known; of each the oldest view used (us since 1970, name)."""

    values: Array
    oldest: list[tuple[int, str] | None]


class Inputs:
    """Of one service. `group`: how its stored inputs are read; None where only a request gives them."""

    def __init__(self, service: Service, vocabulary: Vocabulary) -> None:
        self.names, self.entity = service.features, _entity(service, vocabulary)
        self._vocabulary = vocabulary
        self._places = _places(self.names, vocabulary)
        found = {i: vocabulary.resolve(name) for i, name in enumerate(self.names)}
        mine = {i: pair for i, pair in found.items() if pair and pair[0].entity == self.entity.name}
        self.at = np.array(list(mine), np.int64)  # which inputs are stored
        self.whole = len(mine) == len(self.names)  # all of them
        self.group: Group | None = None
        if mine:
            asked = [f"{view.name}:{field.name}" for view, field in mine.values()]
            shape = Shapes(vocabulary).made(
                FeaturesRequest({self.entity.join_key: []}, msgspec.Raw(msgspec.json.encode(asked)), None, True)
            )
            (self.group,) = shape.groups
            self._order = None if shape.order is None else np.array(shape.order)

    def defaults(self, model: Model) -> Array:
        """What stands for each input that is not known, float64 (inputs,)."""
        return np.array(model.metadata.defaults or [self._vocabulary.default(name) for name in self.names])

    def given(self, features: Mapping[str, float], field: str) -> list[tuple[int, float]]:
        """(input, value) of what a request gives. Raises ApiError 422; `field` is where it stands."""
        found: dict[int, float] = {}
        for name, value in features.items():
            at = self._places.get(name)
            if at is None:
                there = ", ".join(self.names)
                raise ApiError(
                    422, f"there is no input {name[:MAX_SHOWN]!r}; there are {there}", f"{field}.{name[:MAX_SHOWN]}"
                )
            if not -LARGEST <= value <= LARGEST:
                raise ApiError(422, f"expected a number within {LARGEST:.3g}, got {value:g}", f"{field}.{name}")
            if at in found:
                raise ApiError(422, f"{self.names[at]} is given twice", f"{field}.{name}")
            found[at] = value
        return list(found.items())

    def read(self, rows: Sequence[Row], now_us: int) -> Read:
        """What the store replied of n entities. A view that is older than its time to live is not known."""
        parts = self.group.parts if self.group else ()
        pieces: list[bytes] = []
        oldest: list[tuple[int, str] | None] = []
        for row in rows:
            used = None
            for part in parts:
                stamp = row[part.start]
                at = micros(stamp) if stamp else 0
                if not stamp or at < now_us - part.ttl_us:
                    pieces.append(_NAN * len(part.names))
                    continue
                pieces.append(_piece(row, part))
                used = (at, part.view) if used is None or at < used[0] else used
            oldest.append(used)
        values = _numbers(b"".join(pieces), len(rows))
        return Read(values if self._order is None else values[:, self._order], oldest)


def _piece(row: Row, part: Part) -> bytes:
    """A part's values as doubles one after another; NaN for what is missing, null or no number."""
    values = row[part.start + 1 : part.stop]
    try:
        piece = b"".join(values)  # type: ignore[arg-type]  # a None: TypeError
    except TypeError:
        piece = b""
    if len(piece) == _CELL.itemsize * len(values) and piece[:: _CELL.itemsize] == DOUBLE * len(values):
        return piece
    return b"".join([_as_double(value) for value in values])


def _as_double(value: bytes | None) -> bytes:
    try:
        found = read_value(value)
        return _NAN if found is None or isinstance(found, str) else double(float(found))
    except (IndexError, OverflowError, struct.error, UnicodeDecodeError):  # cut short: no writer of ours
        return _NAN


def _numbers(joined: bytes, rows: int) -> Array:
    cells = np.frombuffer(joined, _CELL)
    return np.array(cells["value"]).reshape(rows, -1)


def _entity(service: Service, vocabulary: Vocabulary) -> Entity:
    """Whose features a model takes: of the first of its inputs that a view holds."""
    found = next((pair for pair in map(vocabulary.resolve, service.features) if pair), None)
    return vocabulary.entity_of(found[0]) if found else vocabulary.entities[0]


def _places(names: Sequence[str], vocabulary: Vocabulary) -> dict[str, int]:
    """Under which names an input may be given: as the service has it, in full, and without its view if that is one."""
    short = [name.rpartition(":")[2] for name in names]
    found = {name: i for i, name in enumerate(short) if short.count(name) == 1}
    found |= {f"{vocabulary.view}:{name}": i for i, name in enumerate(names) if ":" not in name}
    return found | {name: i for i, name in enumerate(names)}
