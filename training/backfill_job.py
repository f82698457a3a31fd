"""`telltale backfill`: its options, and what it does with them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from feature_repo import keys, settings
from feature_repo.moments import instant
from feature_repo.settings import Settings
from feature_repo.vocabulary import Vocabulary, load
from flows.store import StoreError, connect, open_store
from training import labels, materialised
from training.feast_rows import write_for_feast
from training.labels import Labels
from training.load import load as load_state
from training.past import NotReadable
from training.training_set import Wanted, service_of, training_set, write


def arguments(job: argparse.ArgumentParser) -> None:
    job.add_argument("--labels", type=Path, help="CSV or Parquet with the columns user and as_of, and any others")
    job.add_argument("--out", type=Path, help="Parquet: those rows, and a column a feature")
    job.add_argument("--service", help="the features of this service alone, in its order")
    job.add_argument("--history", type=Path, help="JSON lines of Segment calls, or a lake; default: this home's lake")
    job.add_argument("--organisation", default="main", help="whose users these are, in a lake (default: main)")
    job.add_argument(
        "--load", action="store_true", help="nothing of these: give people's state what today's features lack"
    )
    job.add_argument("--feast", action="store_true", help="also write the rows where the Feast repo looks for them")
    job.add_argument(
        "--from-rows", type=Path, help="no history: the latest rows that stand in these Parquet files, within the TTL"
    )


def run(given: argparse.Namespace) -> int:
    """Raises NotReadable."""
    if given.load:
        current = settings.load()
        return load_state(current, load(current.feature_repo))
    if not given.labels or not given.out:
        raise NotReadable("backfill: expected --labels FILE and --out FILE.parquet")
    current = settings.load()
    vocabulary = load(current.feature_repo)
    asked = labels.read(given.labels)
    table = (_joined if given.from_rows else _computed)(current, vocabulary, given, asked)
    write(table, given.out)
    print(f"{given.out}: {table.num_rows} rows")
    return 0


def _wanted(current: Settings, vocabulary: Vocabulary, given: argparse.Namespace) -> Wanted:
    return Wanted(
        history=given.history or current.lake,
        vocabulary=vocabulary,
        organisation=given.organisation,
        service=service_of(vocabulary, given.service) if given.service else None,
    )


def _computed(current: Settings, vocabulary: Vocabulary, given: argparse.Namespace, asked: Labels) -> pa.Table:
    wanted = _wanted(current, vocabulary, given)
    if not given.history and (late := unwritten(current, asked)):
        print(f"beware: {late}: rows may lack what was received last; run it again later", file=sys.stderr)
    table, found = training_set(wanted, asked)
    if given.feast:
        print(*write_for_feast(current.home, wanted, asked, found, given.out.stem), sep="\n")
    return table


def unwritten(current: Settings, asked: Labels) -> str:
    """What the running Telltale's log holds of before the last label, and the lake not yet; empty where it is whole."""
    if not len(asked):
        return ""
    try:
        client = connect(current)
        partitions = open_store(client).partitions
    except StoreError:  # it does not run: the lake is all there is
        return ""
    last = int(asked.milliseconds.max())
    behind = 0
    for p in range(partitions):
        position = (client.get(keys.lake_position(p)) or b"0-0").decode()
        behind += bool(client.xrange(keys.log(p), f"({position}", str(last), count=1))
    return f"the lake has not written all of the log before {_iso(last)} in {behind} partitions" if behind else ""


def _iso(ms: int) -> str:
    return f"{instant(ms):%Y-%m-%dT%H:%M:%SZ}"


def _joined(current: Settings, vocabulary: Vocabulary, given: argparse.Namespace, asked: Labels) -> pa.Table:
    columns = _wanted(current, vocabulary, given).columns
    users = pc.binary_join_element_wise(given.organisation, asked.users, "/")
    view = vocabulary.views[vocabulary.view]
    moments = asked.microseconds
    found = materialised.lookup(given.from_rows, vocabulary.join_key, users, moments, columns, view.ttl_days)
    return pa.table([*asked.table.columns, *found.columns], names=[*asked.table.column_names, *columns])
