"""`ratio_feast_file`, `ratio_feast_duckdb`: label rows joined to feature rows that stand, ours against Feast's stores.

All three read the same Parquet file and give one Arrow table. `from_raw_events`: the same labels answered from the
lake's events instead, window code and all.
"""

from __future__ import annotations

import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from feature_repo import training_sets
from feature_repo.vocabulary import Vocabulary
from flows.lake_files import EVENTS, write
from flows.lake_rows import SCHEMA
from flows.plan import Plan
from tests.bench.environments import installed
from tests.bench.options import Options
from tests.bench.result import Result, figure
from training import labels
from training.backfill import features, stream
from training.materialised import lookup
from training.past import past
from training.people import Array
from training.records import DAY
from training.simulate import History, simulate
from training.training_set import Wanted, from_past
from training.training_set import write as write_rows

LABELS, PEOPLE, DAYS = 100_000, 50_000, 90
ROWS = 4  # feature rows a person
TTL = 30  # days
V = Vocabulary()
VIEW = V.views[V.view]
NAMES = tuple(field.name for field in VIEW.fields)


def run(options: Options) -> Result:
    history = simulate(PEOPLE, DAYS, seed=1)
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        rows = _materialise(home, history)
        users, at = _asked(history)
        feast = _Feast(home, rows, users, at)
        jobs: list[Callable[[], pa.Table]] = [
            lambda: lookup(rows, V.join_key, users, at, NAMES, TTL),
            lambda: feast.table("duckdb"),
            lambda: feast.table("file"),
        ]
        for job in jobs:
            job()  # once to warm up
        ours, duck, file = zip(*([_timed(job) for job in jobs] for _ in range(options.runs)), strict=True)
        _same(ours[0][1], duck[0][1])
        _lake(home, history)
        raw = [_timed(lambda: _from_events(home, users, at)) for _ in range(options.runs)]
    speed = [LABELS / spent for spent, _ in ours]
    return Result(
        {
            "ratio_feast_file": figure([f[0] / o[0] for f, o in zip(file, ours, strict=True)], "x"),
            "ratio_feast_duckdb": figure([d[0] / o[0] for d, o in zip(duck, ours, strict=True)], "x"),
            "rows_missing": figure([LABELS - found.num_rows for _, found in ours], "rows", "lower"),
            "rows_per_s": figure(speed, "label rows/s"),
            "from_raw_events": figure([LABELS / spent for spent, _ in raw], "label rows/s"),
            "raw_events": figure([len(history.events.ts)], "events"),
        },
        {
            "feast file store": _peer(file),
            "feast duckdb store": _peer(duck),
        },
        {"feast": installed("feast", "duckdb", "ibis-framework", "dask")},
    )


def _peer(timed: Sequence[tuple[float, pa.Table]]) -> dict[str, Any]:
    return {
        "rows_per_s": figure([LABELS / spent for spent, _ in timed], "label rows/s"),
        "rows_missing": figure([LABELS - found.num_rows for _, found in timed], "rows", "lower"),
    }


def _timed(job: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    found = job()
    return time.perf_counter() - started, found


def _same(ours: pa.Table, feast: pa.Table) -> None:
    """Raises when DuckDB's store, which gives its rows in another order, finds other numbers."""
    for name in NAMES:
        mine, theirs = (np.sort(np.nan_to_num(found[name].to_numpy(), nan=-1.0)) for found in (ours, feast))
        if not np.array_equal(mine, theirs):
            raise AssertionError(f"{name}: expected what Feast's DuckDB store finds")


def _materialise(home: Path, history: History) -> Path:
    """Feature rows of everybody at some instants, in one file."""
    rng = np.random.default_rng(1)
    person = np.repeat(np.arange(PEOPLE), ROWS)
    at = rng.integers(history.start, history.end, len(person))
    found = features(Plan(V), stream(history, V), person, at)
    columns = [
        _users(person),
        pa.array(at * 1000),
        pa.array(np.full(len(at), history.end * 1000)),
        *(pa.array(column) for column in found.T),
    ]
    schema = training_sets.schema(VIEW, V.join_key)
    made = [column.cast(field.type) for column, field in zip(columns, schema, strict=True)]
    path = home / "rows.parquet"
    write_rows(pa.table(made, schema=schema), path)
    return path


def _users(person: Array) -> pa.Array:
    return pa.array([f"main/person-{i:06}" for i in person.tolist()])


def _asked(history: History) -> tuple[pa.Array, Array]:
    rng = np.random.default_rng(2)
    at = rng.integers(history.start + 10 * DAY, history.end, LABELS) * 1000
    return _users(rng.integers(0, PEOPLE, LABELS)), at


class _Feast:
    """Feast's offline stores over the same file."""

    def __init__(self, home: Path, rows: Path, users: pa.Array, at: Array) -> None:
        logging.disable(logging.WARNING)
        moments = pd.to_datetime(at, unit="us", utc=True)
        self._labels = pd.DataFrame({V.join_key: users.to_pylist(), training_sets.EVENT_TIMESTAMP: moments})
        self._stores = {kind: self._store(home, rows, kind) for kind in ("duckdb", "file")}

    def _store(self, home: Path, rows: Path, kind: str) -> Any:
        from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
        from feast.types import Float64

        place = home / kind
        place.mkdir()
        config = {"project": "bench", "provider": "local", "registry": str(place / "registry.db")}
        store = FeatureStore(
            config=RepoConfig(
                **config,
                online_store={"type": "sqlite", "path": str(place / "online.db")},
                offline_store={"type": kind},
                entity_key_serialization_version=3,
            )
        )
        user = Entity(name="user", join_keys=[V.join_key], value_type=ValueType.STRING)
        source = FileSource(
            path=str(rows),
            timestamp_field=training_sets.EVENT_TIMESTAMP,
            created_timestamp_column=training_sets.CREATED,
        )
        schema = [Field(name=name, dtype=Float64) for name in NAMES]
        view = FeatureView(name=V.view, entities=[user], ttl=timedelta(days=TTL), schema=schema, source=source)
        store.apply([user, view])
        return store

    def table(self, kind: str) -> pa.Table:
        asked = [f"{V.view}:{name}" for name in NAMES]
        with warnings.catch_warnings(action="ignore"):
            return self._stores[kind].get_historical_features(self._labels.copy(), asked).to_arrow()


def _lake(home: Path, history: History) -> None:
    """The history as the lake keeps it, a file a day."""
    events = stream(history, V)
    order = np.argsort(events.now, kind="stable")
    names = np.array([code.event for code in V.codes])
    tags = np.array([code.tag or "" for code in V.codes])
    scales = np.array([V.event[name].scale for name in names])
    for nth, part in enumerate(np.split(order, np.flatnonzero(np.diff(events.now[order] // DAY)) + 1)):
        code, now = events.code[part], events.now[part]
        ids = pa.array([f"{ms}-{i}" for i, ms in enumerate(now.tolist())])
        tag = pa.array(tags[code])
        made: dict[str, Any] = {
            "entry_id": ids,
            "index": np.zeros(len(part), np.int32),
            "partition": np.zeros(len(part), np.int32),
            "organisation": pa.array(["main"] * len(part)),
            "user": [f"person-{i:06}" for i in events.person[part].tolist()],
            "uid": events.person[part].astype(np.uint64),
            "mid": (np.arange(len(part)) + 1 + (nth << 32)).astype(np.uint64),
            "event": pa.array(names[code]),
            "tag": pa.array([t or None for t in tag.to_pylist()]),
            "type": pa.array(["track"] * len(part)),
            "value": events.value[part] / scales[code],
            "ts": events.ts[part],
            "logged_at": now,
        }
        columns = [
            pa.array(made[field.name]).cast(field.type) if field.name in made else pa.nulls(len(part), field.type)
            for field in SCHEMA
        ]
        table = pa.table(columns, schema=SCHEMA)
        write(home / "lake" / EVENTS, [], table, (0, (int(now[0]), 0), (int(now[-1]), len(part) - 1)))


def _from_events(home: Path, users: pa.Array, at: Array) -> Array:
    bare = pa.array([user.removeprefix("main/") for user in users.to_pylist()])
    asked = labels.Labels(pa.table({labels.USER: bare, labels.AS_OF: pa.array(at).cast(pa.timestamp("us", tz="UTC"))}))
    wanted = Wanted(history=home / "lake", vocabulary=V)
    return from_past(past(wanted.history, V), wanted, asked)
