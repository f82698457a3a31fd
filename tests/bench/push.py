"""How fast rows of one view are pushed in batches, beside Feast's `write_to_online_store` into the same Valkey.

API, engine and store are processes of their own. Both sides begin with a batch in memory (columns; a DataFrame) and
end when it is stored: a lead's row is like for like, but for our log and the lake. A person's row ends when, besides,
the engine has scored the person again, which Feast never does. One sender sends one batch after another; `c4`: four do.
"""

from __future__ import annotations

import contextlib
import gc
import http.client
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
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
from tests.bench.environments import installed
from tests.bench.options import Options
from tests.bench.result import Figure, Result, figure
from tests.live import ORGANISATION, Live, live, worker

ROWS, BATCHES = 1_000, 20  # a request; batches of other people before the first come again
CONNECTIONS = 4
PERSON, LEAD = "user_finances", "lead_crm"
VOCABULARY = Vocabulary()
Columns = dict[str, list[Any]]


class Side(msgspec.Struct, frozen=True):
    """Who is measured: `ready` makes a batch of columns, which costs no time; each of `senders` takes one by itself."""

    view: str
    senders: list[Callable[[Any], None]]
    ready: Callable[[Columns], Any] = dict
    prefix: str = ""

    def warm(self) -> None:
        """So that nobody is new any more."""
        for nth in range(BATCHES):
            self.senders[0](self.ready(_batch(self.view, self.prefix, nth)))

    def timed(self, seconds: float) -> list[list[float]]:
        """How long each batch took, by sender; all send at once."""
        with ThreadPoolExecutor(len(self.senders)) as threads:
            return list(threads.map(partial(self._timed, seconds), range(len(self.senders)), self.senders))

    def _timed(self, seconds: float, first: int, send: Callable[[Any], None]) -> list[float]:
        times: list[float] = []
        while sum(times) < seconds:
            nth = (first + len(times) * len(self.senders)) % BATCHES  # no two send the same person's
            batch = self.ready(_batch(self.view, self.prefix, nth))
            began = time.perf_counter()
            send(batch)
            times.append(time.perf_counter() - began)
        return times


def run(options: Options) -> Result:
    seconds = options.seconds or 4.0
    with _ground() as (api, feast), contextlib.ExitStack() as doors:
        ours = [doors.enter_context(contextlib.closing(Door(api))) for _ in range(CONNECTIONS)]
        sides = {
            "lead": Side(LEAD, [ours[0].sender(LEAD)]),
            "their_lead": _feasts(feast, LEAD),
            "person": Side(PERSON, [ours[0].sender(PERSON)]),
            "persons": Side(PERSON, [door.sender(PERSON) for door in ours]),
            "their_person": _feasts(feast, PERSON),
        }
        for side in sides.values():
            side.warm()
        gc.collect()
        gc.freeze()  # so that what Feast has imported costs neither side a pause
        rounds = [{name: side.timed(seconds) for name, side in sides.items()} for _ in range(options.runs)]
    rates = {name: [_rate(each[name]) for each in rounds] for name in sides}
    return Result(
        {
            "rows_per_s": figure(rates["lead"], "1/s"),
            "ratio_feast": _ratio(rates["lead"], rates["their_lead"]),
            **_times(rounds, "lead"),
            "person_rows_per_s": figure(rates["person"], "1/s"),
            "person_ratio_feast": _ratio(rates["person"], rates["their_person"]),
            **_times(rounds, "person"),
            "person_rows_per_s_c4": figure(rates["persons"], "1/s"),
        },
        {
            "feast": {
                "rows_per_s": figure(rates["their_lead"], "1/s"),
                "person_rows_per_s": figure(rates["their_person"], "1/s"),
            }
        },
        {"feast": installed("feast", "pandas")},
    )


def _times(rounds: list[dict[str, list[list[float]]]], name: str) -> dict[str, Figure]:
    """How long a batch takes, of one sender."""
    prefix = "" if name == "lead" else f"{name}_"
    return {
        f"{prefix}batch_p{q}_ms": figure([1000 * float(np.quantile(each[name][0], q / 100)) for each in rounds], "ms")
        for q in (50, 99)
    }


def _feasts(store: Any, view: str) -> Side:
    return Side(view, [partial(store.write_to_online_store, view)], _frame, f"{ORGANISATION}/their-")


def _rate(times: list[list[float]]) -> float:
    """Rows a second, of all senders together."""
    return sum(ROWS * len(mine) / sum(mine) for mine in times)


def _ratio(ours: list[float], theirs: list[float]) -> Figure:
    return figure([a / b for a, b in zip(ours, theirs, strict=True)], "x")


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
            with live(settings) as api, worker(settings, "flows.alerting"):
                yield api, _feast(Path(place), server.where.port)
        finally:
            server.stop()


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
