"""What the learner has to know of a model's version: its inputs, its horizon, and what undoes an online calibration."""

from __future__ import annotations

import msgspec
import numpy as np
import sqlalchemy as sa

from feature_repo.vocabulary import Vocabulary
from flows.learning_tables import inputs
from onnx_models.calibrations import undone
from onnx_models.library import Library
from onnx_models.registry import ModelError

DAY = 86_400_000
HORIZON_DAYS = 90  # of a version that does not say


class Stated(msgspec.Struct, frozen=True):
    names: tuple[str, ...]
    horizon_days: int


class Versions:
    """`new`: what SQL does not know yet. What was met once stays known when its directory is gone."""

    def __init__(self, library: Library, vocabulary: Vocabulary) -> None:
        self.new: list[tuple[str, str]] = []
        self._library = library
        self._stated: dict[tuple[str, str], Stated | None] = {}
        self._services = {service.name: service for service in vocabulary.services}
        self._numbers: dict[tuple[str, int], tuple[float, float]] = {}

    def load(self, connection: sa.Connection) -> None:
        for model, version, names, days in connection.execute(sa.select(inputs)):
            self._stated[model, version] = Stated(msgspec.json.decode(names, type=tuple[str, ...]), days)

    def rows(self) -> list[dict[str, object]]:
        """`new`, as SQL takes them."""
        found = [(key, self._stated[key]) for key in self.new]
        return [
            {
                "model": model,
                "version": version,
                "names": msgspec.json.encode(stated.names).decode(),
                "horizon_days": stated.horizon_days,
            }
            for (model, version), stated in found
            if stated
        ]

    def names(self, model: str, version: str) -> tuple[str, ...] | None:
        """The inputs, in the order of the features; None: nobody knows."""
        stated = self._of(model, version)
        return stated.names if stated else None

    def until(self, model: str, version: str, at: int) -> int:
        """When the horizon of a score ends, ms."""
        stated = self._of(model, version)
        return at + (stated.horizon_days if stated else HORIZON_DAYS) * DAY

    def raw(self, model: str, number: int, score: float) -> float | None:
        """The version's own probability, of a score that calibration `number` (0: none) made; None: nobody knows."""
        if not number:
            return score
        if (model, number) not in self._numbers and not self._learn(model):
            return None
        found = self._numbers.get((model, number))
        return float(undone(np.array([score]), *found)[0]) if found else None

    def _learn(self, model: str) -> bool:
        try:
            changes = self._library.calibrations(model).changes
        except ModelError:
            return False
        self._numbers |= {(model, c.number): (c.a, c.b) for c in changes if c.a is not None and c.b is not None}
        return True

    def _of(self, model: str, version: str) -> Stated | None:
        key = model, version
        if key not in self._stated:
            self._stated[key] = self._found(model, version)
            self.new.append(key)
        return self._stated[key]

    def _found(self, model: str, version: str) -> Stated | None:
        try:
            told = self._library.told(model, version)
        except ModelError:
            told = None
        if told:
            return Stated(told.inputs, told.horizon_days)
        service = self._services.get(model)
        return Stated(service.features, HORIZON_DAYS) if service else None
