"""What outcomes taught of each organisation, applied to the scores of a batch of people."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import numpy as np

from feature_repo.declare import Array
from flows.people import People
from onnx_models.calibrations import applied
from onnx_models.session import Model

Columns = tuple[Array, Array, Array]  # by organisation: a, b, calibration's number (0: the model's own)


class Recalibrated(msgspec.Struct):
    """Which calibrations made the scores of n rows.

    `code`: of each row's organisation, int32 (n,). `numbers`: by model that has any, by that code.
    """

    code: Array
    numbers: dict[str, Array]

    def number(self, model: str, at: int) -> int:
        """Of one row; 0: the model's own."""
        return int(self.numbers[model][self.code[at]]) if model in self.numbers else 0


class Recalibrating:
    """Costs nothing while no model has a calibration."""

    def __init__(self, people: People) -> None:
        self._whose = Organisations(people)
        self._columns: dict[str, tuple[Model, Columns]] = {}

    def apply(
        self, models: Iterable[Model], rows: Array, scores: dict[str, tuple[Array, Array]]
    ) -> Recalibrated | None:
        """Moves the calibrated scores, float32 (n,), of these rows in place; None: nothing to move."""
        moved = [model for model in models if model.calibrations]
        if not moved or not len(rows):  # an entry need not be about anybody
            return None
        code = self._whose.of(rows)
        return Recalibrated(code, {model.name: self._move(model, code, scores[model.name][1]) for model in moved})

    def _move(self, model: Model, code: Array, calibrated: Array) -> Array:
        """The calibrations' numbers, by organisation."""
        a, b, number = self._of(model)
        if number.all():
            calibrated[:] = applied(calibrated, *((a[0], b[0]) if len(a) == 1 else (a[code], b[code])))
        else:
            at = np.flatnonzero(number[code])
            calibrated[at] = applied(calibrated[at], a[code[at]], b[code[at]])
        return number

    def _of(self, model: Model) -> Columns:
        """Of all organisations met so far."""
        found = self._columns.get(model.name)
        if found is None or found[0] is not model or len(found[1][0]) < len(self._whose.names):
            held = [model.calibrations.get(name) for name in self._whose.names]
            told = [(c.a, c.b, c.number) if c else (1.0, 0.0, 0) for c in held]
            a, b, number = np.array(told, np.float64).T
            found = self._columns[model.name] = model, (a, b, number.astype(np.int32))
        return found[1]


class Organisations:
    """Whose the rows of the table are, as small numbers; a person's name is looked at once."""

    def __init__(self, people: People) -> None:
        self._people = people
        self.names: list[str] = []
        self._number: dict[bytes, int] = {}
        self._uid, self._code = np.zeros(0, np.uint64), np.zeros(0, np.int32)

    def of(self, rows: Array) -> Array:
        """The number of each row's organisation: int32 (n,), a place in `names`."""
        if not len(self._uid):  # room that only those need who have a calibration
            self._uid = np.zeros(self._people.capacity, np.uint64)
            self._code = np.full(self._people.capacity, -1, np.int32)
        uids = self._people.table.index.keys[rows]
        new = np.flatnonzero((self._uid[rows] != uids) | (self._code[rows] < 0))
        if len(new):
            at = rows[new]
            self._code[at] = [self._numbered(self._people.names[row]) for row in at.tolist()]
            self._uid[at] = uids[new]
        return self._code[rows]

    def _numbered(self, name: bytes) -> int:
        organisation = name.partition(b"/")[0]
        number = self._number.get(organisation)
        if number is None:
            number = self._number[organisation] = len(self.names)
            self.names.append(organisation.decode(errors="surrogateescape"))
        return number
