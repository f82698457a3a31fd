"""Rows of (user, as_of, label) with a model's inputs as of then: from the past, from pushes, or from the file."""

from __future__ import annotations

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.declare import Service
from training import pushed, validate
from training.dataset import features_and_confidence
from training.examples import Examples
from training.labels import AS_OF, USER, Labels
from training.model import Training
from training.past import NotReadable, Past, past
from training.people import Array
from training.training_set import Wanted, from_past, names
from training.validate import NotTrainable

BEST = "best"  # column of simulated rows


class Inputs(msgspec.Struct, frozen=True):
    """(n, inputs) float32 values, and bool where a default stands; (n,) confidence of the signals."""

    values: Array
    unknown: Array
    sure: Array


def examples(
    wanted: Wanted,
    asked: Labels,
    training: Training,
    service: Service,
    of: Past | None = None,
    *,
    simulated: bool = False,
) -> Examples:
    """The rows, sorted by person, then time. `of`: the past, where it is read already.

    An input is taken from the file where it has a column of that name (`request:photos`, or `photos` alone); else it
    is what the past, or the last push, says as of then; else its default. Raises NotTrainable that lists all that is
    wrong with the file, NotReadable.
    """
    problems = validate.newer(asked, training.telling)
    label = _label(asked, training.label.column, problems)
    given = _given(asked, service, training.label.column)
    columns = {name: _numbers(asked, column, problems) for name, column in given.items()}
    if problems or label is None:
        raise NotTrainable(service.name, problems)
    found = _inputs(wanted, asked, training, service, columns, of)
    person = np.asarray(asked.users.dictionary_encode().indices, np.int64)
    order = np.lexsort((asked.milliseconds, person))
    best = np.asarray(asked.table[BEST], np.float64) if simulated and BEST in asked.table.column_names else None
    rows = Examples(person, asked.milliseconds, found.values, found.sure, label, found.unknown, best)
    return rows.those(order)


def _label(asked: Labels, name: str, problems: list[str]) -> Array | None:
    if name not in asked.table.column_names:
        problems.append(f"the labels: expected a column {name}, got {', '.join(asked.table.column_names)}")
        return None
    try:
        found = asked.table[name].combine_chunks().cast(pa.float64())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        problems.append(f"the labels, column {name}: expected 0 or 1 in every row: {error}")
        return None
    wrong = pc.invert(pc.fill_null(pc.is_in(found, value_set=pa.array([0.0, 1.0])), fill_value=False))
    if (bad := pc.index(wrong, value=True).as_py()) >= 0:
        problems.append(f"the labels, row {bad + 1}, column {name}: expected 0 or 1, got {found[bad].as_py()}")
        return None
    return np.asarray(found) == 1.0


def _given(asked: Labels, service: Service, label: str) -> dict[str, str]:
    """Inputs that the file has, with the column that says them."""
    columns = [name for name in asked.table.column_names if name not in (USER, AS_OF, label)]
    spelled = {name: (name, name.rpartition(":")[2]) for name in service.features}
    return {name: next(c for c in both if c in columns) for name, both in spelled.items() if set(both) & set(columns)}


def _numbers(asked: Labels, column: str, problems: list[str]) -> Array | None:
    """float64 (n,), NaN where the file says nothing."""
    given = asked.table[column].combine_chunks()
    if pa.types.is_temporal(given.type):
        problems.append(f"the labels, column {column}: expected numbers, as inputs are, got times")
        return None
    try:
        found = np.array(pc.fill_null(given.cast(pa.float64()), float("nan")))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        problems.append(f"the labels, column {column}: expected numbers, as inputs are: {error}")
        return None
    if bad := np.flatnonzero(np.isinf(found)).tolist():
        problems.append(f"the labels, row {bad[0] + 1}, column {column}: expected a finite number, got {found[bad[0]]}")
    return found


def _inputs(
    wanted: Wanted,
    asked: Labels,
    training: Training,
    service: Service,
    columns: dict[str, Array | None],
    of: Past | None,
) -> Inputs:
    vocabulary = wanted.vocabulary
    flow = [name for name in service.features if name not in columns and name in vocabulary.feature_index]
    outside = [name for name in service.features if name not in columns and name not in flow]
    sure = np.ones(len(asked))
    if flow or training.budget:
        looked = _looked_up(wanted, asked, of or past(wanted.history, vocabulary))
        columns = columns | {name: looked[:, vocabulary.feature_index[name]] for name in flow}
        sure = looked[:, -1]
    pushes = pushed.columns(wanted.history, vocabulary, outside, wanted.organisation, asked)
    columns = columns | {name: _pushed(name, column) for name, column in pushes.items()}
    nothing = np.full(len(asked), np.nan)
    values = np.column_stack([nothing if (c := columns.get(name)) is None else c for name in service.features])
    unknown = np.isnan(values)
    defaults = np.array([vocabulary.default(name) for name in service.features])
    return Inputs(np.where(unknown, defaults, values).astype(np.float32), unknown, sure)


def _looked_up(wanted: Wanted, asked: Labels, of: Past) -> Array:
    """Every feature of the flow, then the confidence of the signals; NaN features of somebody who is not known."""
    found = from_past(of, wanted, asked, features_and_confidence)
    found[of.find(names(of, wanted, asked)) == of.stream.people, :-1] = np.nan
    return found


def _pushed(name: str, column: pa.Array) -> Array:
    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        raise NotReadable(f"{name}: expected a number, as inputs are, got a {column.type}")
    return np.array(pc.fill_null(column.cast(pa.float64()), float("nan")))
