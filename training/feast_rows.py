"""Rows for Feast's offline store (`feature_repo/training_sets.py`): what was known at the labels' instants."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo import training_sets
from feature_repo.declare import View
from training import pushed
from training.labels import Labels
from training.people import Array
from training.training_set import Wanted, write


def write_for_feast(home: Path, wanted: Wanted, asked: Labels, found: Array, name: str) -> list[Path]:
    """A file of this name for the flow's view, whose features are `found`, and for each view that the service reads.

    Returns their paths. Raises NotReadable.
    """
    v = wanted.vocabulary
    flow = v.views[v.view]
    columns = {f.name: pa.array(found[:, i]) for i, f in enumerate(flow.fields)}
    written = [_write(home, wanted, flow, asked, columns, name)]
    resolved = [pair[0] for reference in wanted.columns if (pair := v.resolve(reference))]
    for view in {view.name: view for view in resolved if view.external}.values():
        whole = [f"{view.name}:{field.name}" for field in view.fields]
        known = pushed.columns(wanted.history, v, whole, wanted.organisation, asked)
        told = dict(zip((f.name for f in view.fields), known.values(), strict=True))
        written.append(_write(home, wanted, view, asked, told, name))
    return written


def _write(home: Path, wanted: Wanted, view: View, asked: Labels, columns: dict[str, pa.Array], name: str) -> Path:
    entity = wanted.vocabulary.entity_of(view)
    place = training_sets.begin(home, view, entity.join_key)
    named = asked.table.column_names
    ids = asked.table[entity.join_key].combine_chunks() if entity.join_key in named else asked.users
    now = np.full(len(asked), round(datetime.now(UTC).timestamp() * 1e6))
    whose = pc.binary_join_element_wise(wanted.organisation, ids.cast(pa.string()), "/")
    schema = training_sets.schema(view, entity.join_key)
    rows = [whose, pa.array(asked.milliseconds * 1000), pa.array(now), *columns.values()]
    made = [column.cast(field.type) for column, field in zip(rows, schema, strict=True)]
    path = place / f"{name}.parquet"
    write(pa.table(made, schema=schema), path)
    return path
