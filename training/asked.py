"""`telltale backfill`: a file of (user, as_of) in, the same rows with the features of each moment out."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from feature_repo.vocabulary import Vocabulary
from flows.plan import Plan
from training.backfill import features
from training.past import NotReadable, read


def backfill(history: Path, asked: Path, output: Path, vocabulary: Vocabulary) -> int:
    """Writes `output` (Parquet): the columns of `asked` (CSV or Parquet), and a column a feature. Returns its rows.

    `asked` has `user` (as in the history) and `as_of` (a timestamp, UTC where it names no zone). A user whom the
    history does not know gets the defaults of one who never did anything. Raises NotReadable.
    """
    table = _asked(asked)
    of, users = read(history, vocabulary)
    person = np.array([users.get(user, of.people) for user in table["user"].to_pylist()], np.int64)
    at = np.asarray(table["as_of"].cast(pa.timestamp("ms")).cast(pa.int64()))
    everybody = msgspec.structs.replace(of, people=of.people + 1)  # the last one stands for whoever is unknown
    found = features(Plan(vocabulary), everybody, person, at)
    for i, feature in enumerate(vocabulary.features):
        table = table.append_column(feature.name, pa.array(found[:, i]))
    pyarrow.parquet.write_table(table, output)
    return int(table.num_rows)


def _asked(path: Path) -> pa.Table:
    text = pyarrow.csv.ConvertOptions(column_types={"user": pa.string(), "as_of": pa.timestamp("ms", tz="UTC")})
    try:
        if path.suffix == ".csv":
            table = pyarrow.csv.read_csv(path, convert_options=text)
        else:
            table = pyarrow.parquet.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise NotReadable(f"{path}: expected CSV or Parquet with the columns user and as_of: {error}") from error
    if missing := {"user", "as_of"} - set(table.column_names):
        raise NotReadable(f"{path}: expected the columns user and as_of, {sorted(missing)} is missing")
    return table
