"""Whether rows can teach: enough of them, both classes, nothing that gives the answer away."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from training.examples import Examples
from training.labels import AS_OF, Labels
from training.model import Training
from training.people import Array
from training.splits import Slices

ROWS = 100  # at least
ALONE = 0.85  # ROC-AUC that one input by itself reaches only if it knows the answer
LOOKED_AT = 50_000  # rows, for that


class NotTrainable(ValueError):
    """Rows that cannot teach; `problems` lists all that is wrong with them."""

    def __init__(self, name: str, problems: list[str]) -> None:
        super().__init__(f"{name}: " + "; ".join(problems))
        self.problems = problems


def newer(asked: Labels, declared: Sequence[str]) -> list[str]:
    """Columns of times that lie after `as_of`: what was not known then must not be learnt from."""
    found = []
    for name in asked.table.column_names:
        column = asked.table[name]
        if (
            name == AS_OF
            or name in declared
            or not (pa.types.is_timestamp(column.type) or pa.types.is_date(column.type))
        ):
            continue
        times = np.asarray(pc.fill_null(column.cast(pa.timestamp("us")).cast(pa.int64()), np.iinfo(np.int64).min))
        if late := np.flatnonzero(times > asked.microseconds).tolist():
            found.append(
                f"column {name}: expected no time after {AS_OF}, got {len(late):,} (first in row {late[0] + 1});"
                " leave it out, or declare it (--declared) where nothing of that moment is learnt from"
            )
    return found


def rows(inputs: Sequence[str], of: Examples) -> list[str]:
    """What is wrong with all rows together."""
    found = []
    if len(of) < ROWS:
        found.append(f"expected {ROWS} rows or more, got {len(of)}")
    if len(of) and not of.both:
        found.append(f"expected labels of both kinds, got {int(of.label[0])} in every row")
    if bad := [inputs[i] for i in np.flatnonzero(~np.isfinite(of.features).all(axis=0)).tolist()]:
        found.append(f"expected finite numbers, got others in {', '.join(bad)}")
    return [*found, *_contradictions(of)]


def _contradictions(of: Examples) -> list[str]:
    same = (of.person[1:] == of.person[:-1]) & (of.at[1:] == of.at[:-1])
    number = int((same & (of.label[1:] != of.label[:-1])).sum())
    return [f"expected one label for a user and instant, got 0 and 1 for {number:,}"] if number else []


def slices(training: Training, inputs: Sequence[str], of: Slices) -> list[str]:
    """What is wrong with slices: one that lacks a class, or a single input that gives the answer away."""
    named = {"train on": of.train, "calibrate on": of.between} | {f"judge by ({k})": v for k, v in of.held.items()}
    apart = "" if training.cases else f" ({training.horizon_days} days apart from the next)"
    found = [
        f"rows to {name}{apart}: expected some with the outcome and some without, got"
        f" {len(part):,} rows, {int(part.label.sum()):,} with it"
        for name, part in named.items()
        if not part.both
    ]
    return found or telling(training, inputs, of.train)


def telling(training: Training, inputs: Sequence[str], of: Examples) -> list[str]:
    """Inputs that alone rank the label suspiciously well, and were not declared to."""
    some = of.those(np.arange(0, len(of), -(-len(of) // LOOKED_AT)))
    return [
        f"{name} alone reaches a ROC-AUC of {reached:.3f}, expected below {ALONE}: it seems to know the answer;"
        " leave it out, or declare it (--declared, or `telling` of the service)"
        for name, reached in zip(inputs, alone(some.features, some.label).tolist(), strict=True)
        if reached >= ALONE and name not in training.telling
    ]


def alone(features: Array, label: Array) -> Array:
    """ROC-AUC of each input by itself, in whichever direction ranks better: (inputs,)."""
    with_, without = int(label.sum()), int((~label).sum())
    ranks = np.array([_ranks(column)[label].sum() for column in features.T])
    auc = (ranks - with_ * (with_ + 1) / 2) / (with_ * without)
    return np.maximum(auc, 1 - auc)


def _ranks(column: Array) -> Array:
    """From 1 on; equal ones share the mean of theirs."""
    _, inverse, counts = np.unique(column, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]
