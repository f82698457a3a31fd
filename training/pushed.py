"""Features of views that outside data fills, as of past instants: what had been pushed by then."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.declare import Field, View
from feature_repo.finish import DAY
from feature_repo.training_sets import schema
from feature_repo.vocabulary import Vocabulary
from flows import push
from flows.lake_read import LakeReader
from flows.store import Store
from training.backfill import key
from training.labels import Labels
from training.past import NotReadable
from training.people import Array

_ROWS = """
    SELECT organisation || '/' || "user" AS name, epoch_ms(logged_at) AS now, raw FROM events
    WHERE type = 'push' ORDER BY logged_at, CAST(split_part(entry_id, '-', 2) AS BIGINT), "index"
"""


class Pushed(msgspec.Struct, frozen=True):
    """Every push of a view, in the log's order: (n,) of whom (an index of `names`), received when, and what stood then.

    `best[i]` is the push whose values stood after push i: the one of the latest timestamp so far.
    """

    names: list[str]
    person: Array
    now: Array
    best: Array
    pushes: list[push.Push]


def columns(
    history: Path, vocabulary: Vocabulary, references: list[str], organisation: str, asked: Labels
) -> dict[str, pa.Array]:
    """A column for each `view:feature`: null where nothing was pushed by then, or longer ago than the view's TTL.

    A history of JSON lines holds no pushes. Raises NotReadable.
    """
    resolved = {name: pair for name in references if (pair := vocabulary.resolve(name))}
    rows = _rows(history, vocabulary) if resolved and history.is_dir() else []
    found: dict[str, pa.Array] = {}
    for name, (view, field) in resolved.items():
        of = _pushed(rows, view.name)
        stood = _stood(of, _names(vocabulary, view, organisation, asked), asked.milliseconds)
        found[name] = _column(of, stood, view, field, asked)
    return found


def _rows(history: Path, vocabulary: Vocabulary) -> list[tuple[str, int, push.Push]]:
    offline = Store(partitions=1, clock="log", seed=0)  # without users to find, all files are read
    found = LakeReader(history, vocabulary, offline).sql(_ROWS).to_pylist()
    return [(row["name"], row["now"], push.decode(row["raw"])) for row in found]


def _pushed(rows: list[tuple[str, int, push.Push]], view: str) -> Pushed:
    mine = [row for row in rows if row[2].view == view]
    number: dict[str, int] = {}
    person = [number.setdefault(name, len(number)) for name, _, _ in mine]
    latest: dict[int, int] = {}
    best = []
    for i, (who, (_, _, pushed)) in enumerate(zip(person, mine, strict=True)):
        if who not in latest or pushed.at > mine[latest[who]][2].at:
            latest[who] = i
        best.append(latest[who])
    now = [row[1] for row in mine]
    return Pushed(
        list(number),
        np.array(person, np.int64),
        np.array(now, np.int64),
        np.array(best, np.int64),
        [r[2] for r in mine],
    )


def _names(vocabulary: Vocabulary, view: View, organisation: str, asked: Labels) -> pa.Array:
    """Whose values each row of the labels asks for, as the lake names them."""
    entity = vocabulary.entity_of(view)
    if entity.join_key in asked.table.column_names:
        ids = asked.table[entity.join_key].combine_chunks().cast(pa.string())
    elif entity.name == vocabulary.entity:
        ids = asked.users
    else:
        raise NotReadable(f"features of {view.name}: expected the labels to have a column {entity.join_key}")
    mark = "" if entity.name == vocabulary.entity else f"{entity.name}:"
    return pc.binary_join_element_wise(f"{organisation}/{mark}", ids, "")


def _stood(of: Pushed, names: pa.Array, at: Array) -> Array:
    """Index of the push that stood at each instant; -1 = none."""
    if not of.pushes:
        return np.full(len(names), -1)
    who = np.asarray(pc.fill_null(pc.index_in(names, value_set=pa.array(of.names)), -1), np.int64)
    order = np.argsort(key(of.person, of.now), kind="stable")
    place = np.searchsorted(key(of.person, of.now)[order], key(who, at), side="right") - 1
    row = order[np.maximum(place, 0)]
    return np.where((place >= 0) & (of.person[row] == who), of.best[row], -1)


def _column(of: Pushed, stood: Array, view: View, field: Field, asked: Labels) -> pa.Array:
    oldest = asked.microseconds - view.ttl_days * DAY * 1000
    values = [
        of.pushes[i].features.get(field.name) if i >= 0 and of.pushes[i].at >= least else None
        for i, least in zip(stood.tolist(), oldest.tolist(), strict=True)
    ]
    return pa.array(values, schema(view, "").field(field.name).type)
