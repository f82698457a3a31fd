"""A file of history, brought in through the public door and counted by the real processes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import redis

from feature_repo import keys, layout
from feature_repo.settings import Settings
from feature_repo.vocabulary import Vocabulary, load
from flows.store import Store, connect, embedded, open_store
from tests.live import ORGANISATION, ROOT, Live, live, worker

DATA = ROOT.parent / "shared" / "data"
DOMAINS = Path(__file__).parent / "domains"
BATCH = 1000
PATIENCE = 60.0  # seconds


def table(name: str, file: str, **options: Any) -> pd.DataFrame:
    """A file of one of the data sets; the test is skipped where they are not at hand. `options`: of pandas' reader."""
    path = DATA / name / file
    if not path.exists():
        pytest.skip(f"no {path}: the public data sets are not part of the project")
    return pd.read_csv(path, **({"dtype": {"case_id": str, "user_id": str}} | options))


class Replay:
    """What came out: features by user, and counts."""

    def __init__(self, client: redis.Redis, store: Store, vocabulary: Vocabulary) -> None:
        self.client, self.store, self.vocabulary = client, store, vocabulary

    def counts(self) -> dict[str, int]:
        """Events by outcome, over all partitions."""
        found: Any = [self.client.hgetall(keys.counts(p)) for p in range(self.store.partitions)]
        frame = pd.DataFrame(found).fillna(0).astype(int)
        return {name.decode(): int(total) for name, total in frame.sum().items()}

    def features(self, users: list[str]) -> pd.DataFrame:
        """One row a user, with `at`, the log's time (ms) as of which they stand."""
        view, names = self.vocabulary.view, [f.name for f in self.vocabulary.features]
        fields = [*(layout.field(view, name) for name in names), layout.timestamp_field(view)]
        pipe = self.client.pipeline(transaction=False)
        for user in users:
            pipe.hmget(layout.entity_key(self.vocabulary.join_key, f"{ORGANISATION}/{user}".encode()), fields)
        rows = [[*map(layout.read_double, values), layout.read_timestamp(at)] for *values, at in pipe.execute()]
        return pd.DataFrame(rows, index=users, columns=[*names, "at"])


@contextlib.contextmanager
def replayed(home: Path, name: str, calls: list[dict[str, Any]]) -> Iterator[Replay]:
    """The calls, in their order, through the door of a store of their own, under the domain of that name ("": ours)."""
    settings = Settings(home=home, partitions=4, clock="log", feature_repo=str(DOMAINS / name) if name else "")
    server = embedded(home)
    try:
        with live(settings) as api, contextlib.closing(connect(settings)) as client, worker(settings, "flows.alerting"):
            for at in range(0, len(calls), BATCH):
                _post(api, calls[at : at + BATCH])
            _until_counted(client, len(calls))
            yield Replay(client, open_store(client), load(settings.feature_repo))
    finally:
        server.stop()


def _post(api: Live, calls: list[dict[str, Any]]) -> None:
    answer = api.post("/v1/batch", {"batch": calls}, X_Telltale_History="1")
    assert (answer.status, answer.json["accepted"], answer.json["rejected"]) == (200, len(calls), []), answer.body


def _until_counted(client: redis.Redis, events: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while (done := _counted(client)) < events:
        assert time.monotonic() < deadline, f"{done} of {events} events were counted within {PATIENCE:.0f} s"
        time.sleep(0.05)


def _counted(client: redis.Redis) -> int:
    found: Any = [client.hgetall(keys.counts(p)) for p in range(open_store(client).partitions)]
    return sum(int(n) for counts in found for name, n in counts.items() if name != b"accepted")
