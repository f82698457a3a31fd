"""Predictions on their way to the lake: each that was answered is there once, however often the lake is killed."""

from __future__ import annotations

import contextlib
import random
import signal
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from feature_repo.settings import Settings
from flows import lake_files as files
from flows.store import embedded
from tests.faults.rounds import KILLS
from tests.live import live, worker

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kills processes")
PATH = "/v1/score/likely_to_sell"


def in_the_lake(settings: Settings) -> dict[str, float]:
    """Probability by id, as readers see it, who leave out what lies within another file."""
    standing = files.current(files.everything(settings.lake, kind=files.PREDICTIONS))
    rows = pd.concat([pd.read_parquet(file.path) for file in standing])
    assert rows["prediction_id"].is_unique
    return dict(zip(rows["prediction_id"], rows["probability"], strict=True))


def test_each_answered_prediction_is_in_the_lake_once(tmp_path: Path) -> None:
    """The lake dies by kill -9 at any moment, the API ends by SIGTERM with the last answers not yet written."""
    rng, told = random.Random(2), dict[str, float]()
    server = embedded(tmp_path)
    settings = Settings(home=tmp_path, partitions=2, lake_seconds=1)
    try:
        with live(settings) as api:
            for _ in range(KILLS):
                with worker(settings, "flows.lake") as lake:
                    until = time.monotonic() + rng.uniform(1.0, 3.5)
                    while time.monotonic() < until:
                        features = {"session_count_30d": rng.randrange(50)}
                        found = api.post(PATH, {"instances": [{"features": features}, {"id": "u"}]}).json
                        told |= {p["prediction_id"]: p["probability"] for p in found["predictions"]}
                        time.sleep(0.01)
                    lake.send_signal(signal.SIGKILL)
        with worker(settings, "flows.lake"):
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                with contextlib.suppress(FileNotFoundError, ValueError):  # merged meanwhile, or none yet
                    if len(in_the_lake(settings)) >= len(told):
                        break
                time.sleep(0.2)
        found_ = in_the_lake(settings)
        assert {id_: round(p, 6) for id_, p in found_.items()} == {id_: round(p, 6) for id_, p in told.items()}
    finally:
        server.stop()
