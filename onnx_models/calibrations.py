"""Online calibrations of a model: two numbers a version and organisation, learned from outcomes between two trainings.

p = sigmoid(a x logit(the version's own calibrated probability) + b). They lie as `calibrations.json` beside the model's
`registry.json`; each change gets a number, which is in every score that it touched. A new version starts without.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from onnx_models.files import locked, replace
from onnx_models.registry import Damaged

Array = np.ndarray[Any, Any]
FILE = "calibrations.json"
SLOPE = (0.5, 2.0)  # a: nobody's outcomes move it further
SHIFT = 2.0  # |b| at most: odds at most 7.4 x what the model says
KEPT = 10_000  # changes told
PATIENCE_S = 5.0  # for a change of somebody else's
LANES = 16  # whole vectors: then the loop's tail, which may round otherwise, holds padding alone
_LEAST = 1e-7  # from 0 and 1: there a float32 has no odds


class Calibration(msgspec.Struct, frozen=True):
    """One change: from then on it holds for its version and organisation. a and b None: the version's own does."""

    number: int
    version: str
    organisation: str
    a: float | None
    b: float | None
    at: datetime
    who: str
    why: str


class Calibrations(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All changes of a model, oldest first; the last one of a version and organisation holds."""

    changes: tuple[Calibration, ...] = ()

    def holding(self, version: str) -> dict[str, Calibration]:
        """By organisation, where one holds."""
        last = {change.organisation: change for change in self.changes if change.version == version}
        return {organisation: change for organisation, change in last.items() if change.a is not None}

    def numbered(self, number: int) -> Calibration | None:
        return next((change for change in reversed(self.changes) if change.number == number), None)


def read(folder: Path) -> Calibrations:
    """Of the model whose registry is in `folder`; none where there is no file. Raises Damaged."""
    file = folder / FILE
    try:
        found = msgspec.json.decode(file.read_bytes(), type=Calibrations)
    except FileNotFoundError:
        return Calibrations()
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Damaged(f"{file}: expected calibrations: {error}") from error
    for change in found.changes:
        if wrong := outside(change.a, change.b):
            raise Damaged(f"{file}: calibration {change.number}: {wrong}")
    return found


def outside(a: float | None, b: float | None) -> str:
    """What is wrong with two numbers; empty: nothing."""
    if a is None and b is None:
        return ""
    if a is None or b is None or not SLOPE[0] <= a <= SLOPE[1] or not -SHIFT <= b <= SHIFT:
        return f"expected a in {SLOPE[0]:g} to {SLOPE[1]:g} and b in {-SHIFT:g} to {SHIFT:g}, got {a} and {b}"
    return ""


def change(
    folder: Path, version: str, organisation: str, new: tuple[float, float] | None, who: str, why: str
) -> Calibration | None:
    """From now on these two numbers hold, or, None, the version's own calibration. None where that is so already.

    Raises ValueError for numbers outside the bounds, Conflict, Damaged.
    """
    a, b = new or (None, None)
    if wrong := outside(a, b):
        raise ValueError(wrong)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "calibrations.lock", PATIENCE_S):
        before = read(folder)
        held = before.holding(version).get(organisation)
        if (held and (held.a, held.b)) == (new and (a, b)):
            return None
        number = max((told.number for told in before.changes), default=0) + 1
        made = Calibration(number, version, organisation, a, b, datetime.now(UTC), who, why)
        after = Calibrations(_kept((*before.changes, made)))
        replace(folder / FILE, msgspec.json.format(msgspec.json.encode(after), indent=1))
    return made


def _kept(changes: tuple[Calibration, ...]) -> tuple[Calibration, ...]:
    """The latest, and whatever holds."""
    if len(changes) <= KEPT:
        return changes
    last = {(c.version, c.organisation): c.number for c in changes}
    holds = set(last.values())
    old, new = changes[:-KEPT], changes[-KEPT:]
    return (*(c for c in old if c.number in holds and c.a is not None), *new)


def applied(probability: Array, a: Array | float, b: Array | float) -> Array:
    """sigmoid(a x logit(p) + b): float32 (n,) from (n,); a and b are (n,) or one for all. NaN stays NaN.

    The same bits for a row, however many others it comes with.
    """
    n = len(probability)
    whole = -(-n // LANES) * LANES
    p = np.full(whole, 0.5)
    p[:n] = probability
    np.clip(p, _LEAST, 1 - _LEAST, out=p)
    odds = np.log(p / (1 - p))
    odds[:n] *= a
    odds[:n] += b
    np.exp(np.negative(odds, out=odds), out=odds)
    return np.asarray(1 / (1 + odds), np.float32)[:n]


def undone(probability: Array, a: Array | float, b: Array | float) -> Array:
    """What `applied` was given, float64 (n,), as nearly as float32 kept it."""
    p = np.clip(np.asarray(probability, np.float64), _LEAST, 1 - _LEAST)
    return np.asarray(1 / (1 + np.exp(-((np.log(p) - np.log1p(-p)) - b) / a)))


def by_organisation(
    of: Mapping[str, Calibration], organisations: Iterable[str], probability: Array
) -> tuple[Array, Array]:
    """(probability float32 (n,), numbers int32 (n,)) with what holds for each row's organisation."""
    if not of:
        return probability, np.zeros(len(probability), np.int32)
    found = [of.get(organisation) for organisation in organisations]
    numbers = np.array([one.number if one else 0 for one in found], np.int32)
    at = np.flatnonzero(numbers)
    if len(at):
        a, b = np.array([(one.a, one.b) for one in found if one], np.float64).T
        probability = probability.copy()
        probability[at] = applied(probability[at], a, b)
    return probability, numbers
