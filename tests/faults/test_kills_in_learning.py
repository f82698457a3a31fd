"""Outcomes on their way to the learners: each is learned once and in one order, however often the learner is killed."""

from __future__ import annotations

import random
import signal
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from feature_repo.settings import Settings
from feature_repo.vocabulary import Vocabulary
from flows.alert_store import AlertStore, open_alerts
from flows.learned import Learned
from flows.learners.catalogue import KINDS
from flows.learning_store import LearningStore, Snapshot
from flows.learning_tables import journal, learners
from flows.learning_versions import Versions
from flows.store import embedded
from onnx_models.library import Library
from tests.faults.rounds import ALL, KILLS
from tests.flows.made_models import logistic
from tests.flows.made_outcomes import SELL, alert
from tests.live import ORGANISATION, Live, live, worker

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kills processes")
PATIENCE = 60.0  # seconds for the last life to learn what is left


class Teller:
    """Records outcomes over HTTP: of alerts and of predictions, some of them twice, some corrected.

    `labels`: of each name all that it was told to be, in the order in which that changed.
    """

    def __init__(self, api: Live, store: AlertStore, seed: int) -> None:
        self.labels: dict[str, list[int]] = {}
        self._api, self._store, self._rng, self._n = api, store, random.Random(seed), 0

    def tell(self) -> None:
        rng = self._rng
        if self.labels and rng.random() < 0.3:
            self._told(rng.choice(sorted(self.labels)), rng.randrange(2))
        elif rng.random() < 0.5:
            found = self._api.post(f"/v1/score/{SELL.name}", {"features": {"session_count_30d": rng.randrange(9)}})
            self._told(found.json["prediction_id"], rng.randrange(2))
        else:
            self._n += 1
            made = alert(self._n, time.time_ns() // 1_000_000 - 10, rng.random(), organisation=ORGANISATION)
            self._store.insert([made])
            self._told(made.id, rng.randrange(2))

    def _told(self, name: str, label: int) -> None:
        if name.startswith("al_"):
            judgement = "TRUE_POSITIVE" if label else "FALSE_POSITIVE"
            answer = self._api.post(f"/v1/alerts/{name}/outcome", {"outcome": judgement})
        else:
            answer = self._api.post(f"/v1/predictions/{name}/outcome", {"outcome": label})
        assert answer.status in {200, 201}, answer.body
        told = self.labels.setdefault(name, [])
        if told[-1:] != [label]:
            told.append(label)


def learned(store: AlertStore) -> dict[str, list[int]]:
    """As the journal has it."""
    found: dict[str, list[int]] = {}
    with store.engine.connect() as connection:
        for row in connection.execute(sa.select(journal).order_by(journal.c.seq)).mappings():
            labels = found.setdefault(row["example"], [])
            assert (row["revision"], row["was"]) == (len(labels), labels[-1] if labels else None)
            labels.append(row["label"])
    return found


def kept(store: AlertStore) -> dict[Any, Snapshot]:
    found = LearningStore(store.engine, Versions(Library(Path()), Vocabulary())).snapshots()
    return {(one.kind, one.place): one for one in found}


def learned_anew(store: AlertStore, settings: Settings) -> dict[Any, Snapshot]:
    """What the journal alone makes of learners that know nothing."""
    with store.engine.begin() as connection:
        connection.execute(learners.delete())
    versions = Versions(Library.of(settings), Vocabulary())
    fresh = Learned(KINDS)
    fresh.restore(LearningStore(store.engine, versions))
    return {(one.kind, one.place): one for one in fresh.snapshots()}


def test_each_outcome_is_learned_once_through_kills(tmp_path: Path) -> None:
    """Whatever the learners were when they were killed, they end as if they had never been."""
    rng, server = random.Random(1), embedded(tmp_path)
    logistic(tmp_path / "shipped", SELL, "session_count_30d", 1.0, 2.0, 0.5)
    settings = Settings(home=tmp_path, partitions=2, models=str(tmp_path / "shipped"))
    try:
        with live(settings) as api, closing(open_alerts(settings)) as store:
            teller = Teller(api, store, 1)
            for _ in range(KILLS if ALL else 2):  # each begins for two seconds
                with worker(settings, "flows.learning") as process:
                    until = time.monotonic() + rng.uniform(2.0, 6.0)  # it takes two seconds to begin
                    while time.monotonic() < until:
                        teller.tell()
                    process.send_signal(signal.SIGKILL)
            with worker(settings, "flows.learning"):
                deadline = time.monotonic() + PATIENCE
                while time.monotonic() < deadline and learned(store) != teller.labels:
                    time.sleep(0.2)
            assert learned(store) == teller.labels
            assert len(teller.labels) > 20
            there, anew = kept(store), learned_anew(store, settings)
            assert {key: one.report for key, one in there.items()} == {key: one.report for key, one in anew.items()}
            plain = {key: one.state for key, one in there.items() if key[0] != "challenger_forest"}  # River's own bytes
            assert plain == {key: anew[key].state for key in plain}
    finally:
        server.stop()
