"""What `telltale backfill` says of a lake that is not whole yet."""

from __future__ import annotations

from pathlib import Path

import redis

from feature_repo import keys
from feature_repo.settings import Settings
from flows.store import create
from training import labels
from training.backfill_job import unwritten


def asked(place: Path, as_of: str) -> labels.Labels:
    (place / "labels.csv").write_text(f"user,as_of\nada,{as_of}\n")
    return labels.read(place / "labels.csv")


def test_it_says_where_the_lake_lacks_what_labels_ask_for(
    client: redis.Redis, settings: Settings, tmp_path: Path
) -> None:
    """Where the log holds something of before the last label that the lake has not written; not of after it."""
    create(client, settings)
    client.xadd(keys.log(1), {"e": b""}, id="1772366400000-5")  # 2026-03-01T12:00:00Z
    after, before = asked(tmp_path, "2026-03-01T12:00:01Z"), asked(tmp_path, "2026-03-01T11:59:59Z")
    assert unwritten(settings, after).endswith("before 2026-03-01T12:00:01Z in 1 partitions")
    assert unwritten(settings, before) == ""
    client.set(keys.lake_position(1), "1772366400000-5")
    assert unwritten(settings, after) == ""


def test_where_nothing_runs_the_lake_is_all_there_is(tmp_path: Path) -> None:
    """It does not fail, and says nothing."""
    assert unwritten(Settings(home=tmp_path), asked(tmp_path, "2026-03-01")) == ""
