"""`telltale backfill --labels`: rows of (user, as_of, label...) in, the same with the features of each moment out."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from feature_repo.declare import Service
from feature_repo.vocabulary import Vocabulary
from flows.plan import Plan
from training import backfill, pushed
from training.labels import Labels
from training.past import NotReadable, Past, past
from training.people import Array


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Where the past is, whose users the labels name, and which features to add (None: all of the flow's view)."""

    history: Path
    vocabulary: Vocabulary
    organisation: str = "main"
    service: Service | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the features, in order: `feature`, or `view:feature` of a view that outside data fills.

        What only a request gives is no feature: the labels have it, or nobody has.
        """
        v = self.vocabulary
        return v.stored(self.service) if self.service else tuple(f.name for f in v.features)


def service_of(vocabulary: Vocabulary, name: str) -> Service:
    """Raises NotReadable that names those there are."""
    found = next((service for service in vocabulary.services if service.name == name), None)
    if found is None:
        names = ", ".join(service.name for service in vocabulary.services)
        raise NotReadable(f"expected a service among {names or 'none, for the domain has none'}; got {name!r}")
    return found


def training_set(wanted: Wanted, asked: Labels) -> tuple[pa.Table, Array]:
    """(the labels' rows with a column a feature, all features of the flow's view: float64 (n, features)).

    Features are as of each row's instant, of what was received by then. One whom the history does not know has the
    defaults. Raises NotReadable.
    """
    if clash := [name for name in wanted.columns if name in asked.table.column_names]:
        raise NotReadable(f"the labels have columns that are named like features: {', '.join(clash)}; rename them")
    found = from_past(past(wanted.history, wanted.vocabulary), wanted, asked)
    index = wanted.vocabulary.feature_index
    outside = [name for name in wanted.columns if name not in index]
    extra = pushed.columns(wanted.history, wanted.vocabulary, outside, wanted.organisation, asked)
    table = asked.table
    for name in wanted.columns:
        table = table.append_column(name, extra[name] if name in extra else pa.array(found[:, index[name]]))
    return table, found


def from_past(of: Past, wanted: Wanted, asked: Labels, read: backfill.Read | None = None) -> Array:
    """What `read` (by default: every feature) finds in each row's person as of its instant: (n, columns)."""
    person = of.find(names(of, wanted, asked))
    unknown = np.flatnonzero(person == of.stream.people)  # each stands for somebody else who never did anything
    person[unknown] += np.arange(len(unknown))
    everybody = msgspec.structs.replace(of.stream, people=of.stream.people + len(unknown))
    plan = Plan(wanted.vocabulary)
    if read is None:
        return backfill.features(plan, everybody, person, asked.milliseconds)
    return backfill.worked(plan, everybody, person, asked.milliseconds, read)


def names(of: Past, wanted: Wanted, asked: Labels) -> pa.Array:
    """The labels' users as the past names them: in a lake with their organisation. Raises NotReadable."""
    if not wanted.history.is_dir():
        return asked.users
    there = {name.partition("/")[0] for name in of.names.to_pylist()}
    if there and wanted.organisation not in there:
        raise NotReadable(
            f"{wanted.history}: expected an organisation among {', '.join(sorted(there))}; got {wanted.organisation!r}"
        )
    return pc.binary_join_element_wise(wanted.organisation, asked.users, "/")


def write(table: pa.Table, path: Path) -> None:
    """Whole or not at all."""
    fresh = path.with_name(f".{path.name}.new")
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(table, fresh, compression="none")  # encoded well: a fifth larger, and quicker to read
    fresh.replace(path)
