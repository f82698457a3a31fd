"""How fast rows of one view are pushed in batches, beside Feast's `write_to_online_store` into the same Valkey.

API, engine and store are processes of their own. Both sides begin with a batch in memory (columns; a DataFrame) and
end when it is stored; a person's row, besides, when the engine has scored the person again. One batch after another.
"""

from __future__ import annotations

import contextlib
import http.client
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from feature_repo.layout import PROJECT
from feature_repo.settings import Settings
from feature_repo.vocabulary import Vocabulary
from flows.store import embedded
from tests.bench.options import Options
from tests.bench.result import ROOT, Result, figure
from tests.live import ORGANISATION, Live, environment, live

ROWS, BATCHES = 1_000, 20  # a request; batches of other people before the first come again
PERSON, LEAD = "user_finances", "lead_crm"
VOCABULARY = Vocabulary()
Columns = dict[str, list[Any]]


class Side(msgspec.Struct, frozen=True):
    """Who is measured: `ready` makes a batch of columns, which costs no time, `send` takes it."""

    view: str
    send: Callable[[Any], None]
    ready: Callable[[Columns], Any] = dict
    prefix: str = ""

    def timed(self, seconds: float, least: int = 1) -> list[float]:
        """How long each batch took, over some seconds and at least so many."""
        times: list[float] = []
        while len(times) < least or sum(times) < seconds:
            batch = self.ready(_batch(self.view, self.prefix, len(times) % BATCHES))
            began = time.perf_counter()
            self.send(batch)
            times.append(time.perf_counter() - began)
        return times


def run(options: Options) -> Result:
    seconds = options.seconds or 4.0
    with _ground() as (api, feast), contextlib.closing(Door(api)) as door:
        person, lead = Side(PERSON, door.sender(PERSON)), Side(LEAD, door.sender(LEAD))
        theirs = Side(PERSON, partial(feast.write_to_online_store, PERSON), _frame, f"{ORGANISATION}/their-")
        for side in (person, lead, theirs):
            side.timed(0.0, BATCHES)  # warm, and nobody is new any more
        rounds = [[side.timed(seconds) for side in (person, lead, theirs)] for _ in range(options.runs)]
    persons, leads, others = ([ROWS * len(each[i]) / sum(each[i]) for each in rounds] for i in range(3))
    batches = [[1000 * float(np.quantile(each[0], q)) for each in rounds] for q in (0.5, 0.99)]
    return Result(
        {
            "rows_per_s": figure(persons, "1/s"),
            "ratio_feast": figure([a / b for a, b in zip(persons, others, strict=True)], "x"),
            "batch_p50_ms": figure(batches[0], "ms"),
            "batch_p99_ms": figure(batches[1], "ms"),
            "lead_rows_per_s": figure(leads, "1/s"),
            "lead_ratio_feast": figure([a / b for a, b in zip(leads, others, strict=True)], "x"),
        },
        {"feast": {"rows_per_s": figure(others, "1/s")}},
    )


def _batch(view: str, prefix: str, nth: int) -> Columns:
    """Rows of now, so that none of them is stale."""
    rng = np.random.default_rng(nth)
    found = VOCABULARY.views[view]
    key, now = VOCABULARY.entity_of(found).join_key, datetime.now(UTC)
    columns: Columns = {key: [f"{prefix}{nth}-{i}" for i in range(ROWS)], "event_timestamp": [now] * ROWS}
    for field in found.fields:
        drawn = rng.integers(0, 500_000, ROWS)
        columns[field.name] = (drawn if field.kind == "integer" else drawn / 7).tolist()
    return columns


class Door:
    """Our door, over one connection that stays open."""

    def __init__(self, api: Live) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=30)
        self._headers = {**api.login, "Content-Type": "application/json"}

    def sender(self, view: str) -> Callable[[Columns], None]:
        source = VOCABULARY.views[view].push_source

        def send(columns: Columns) -> None:
            body = msgspec.json.encode({"push_source_name": source, "df": columns})
            self._connection.request("POST", "/push", body, self._headers)
            answer = self._connection.getresponse()
            said = answer.read()
            if answer.status != 200:
                raise RuntimeError(f"a push was answered with {answer.status}: {said.decode()[:300]}")

        return send

    def close(self) -> None:
        self._connection.close()


def _frame(columns: Columns) -> Any:
    import pandas as pd

    return pd.DataFrame({**columns, "created": columns["event_timestamp"]})


@contextlib.contextmanager
def _ground() -> Iterator[tuple[Live, Any]]:
    """Our API and engine, and a FeatureStore, over one store."""
    with tempfile.TemporaryDirectory(prefix="telltale-bench-") as place:
        server = embedded(Path(place))
        settings = Settings(home=Path(place))
        try:
            with live(settings) as api, _engine(settings):
                yield api, _feast(Path(place), server.where.port)
        finally:
            server.stop()


@contextlib.contextmanager
def _engine(settings: Settings) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-m", "flows.alerting"], env=environment(settings), cwd=ROOT)
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


def _feast(place: Path, port: int) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Feast's own
        from feast import FeatureStore, RepoConfig

        from feature_repo.feast_objects import objects

        store = FeatureStore(
            config=RepoConfig(
                project=PROJECT,
                registry=str(place / "registry.db"),
                provider="local",
                online_store={"type": "redis", "connection_string": f"localhost:{port}"},
                offline_store={"type": "file"},
                entity_key_serialization_version=3,
            )
        )
        store.apply(objects(VOCABULARY, place)[1:])
        return store
