"""What was served is what the lake's events give: a clean stream shows no difference, a touched value shows."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import redis

from feature_repo import keys
from feature_repo.settings import Settings
from flows import lake_files as files
from tests.flows import streams_made as made
from tests.flows.both_sides import VOCABULARY
from tests.flows.streams_made import DAY, START
from tests.live import environment
from tests.posted import iso
from tests.training.lived import Run, lived
from training.consistency import NothingServed


@pytest.fixture
def run(client: redis.Redis, settings: Settings) -> Iterator[Run]:
    made_ = Run(client, settings)
    yield made_
    made_.engine.close()


@pytest.mark.parametrize("seed", range(3))
def test_a_clean_stream_differs_nowhere(run: Run, seed: int) -> None:
    """Late, repeated, unknown events, joins, ticks and kills: every served row is computed again exactly."""
    lived(run, seed)
    report = run.compared()
    assert (report.differ, report.share, report.examples) == (0, 0.0, [])
    assert report.left_out == 0
    assert report.rows > 200
    assert report.people > 15


def corrupt(run: Run, feature: str) -> tuple[str, float]:
    """Adds one to a feature in one row of the lake; returns whose, and the value that was right."""
    file = files.everything(run.settings.lake, kind=files.FEATURES)[-1]
    table = pq.ParquetFile(file.path).read()
    column = table[feature].to_numpy().copy()
    was, column[0] = float(column[0]), column[0] + 1
    at = table.column_names.index(feature)
    pq.write_table(table.set_column(at, feature, pa.array(column)), file.path)
    return f"org/{table['user'][0].as_py()}", was


def test_a_touched_value_is_found(run: Run) -> None:
    """One value of one row, wrong by one: that row, that feature, by that much."""
    lived(run, 5, 150)
    run.flush_lake()
    user, was = corrupt(run, "session_count_30d")
    report = run.compared()
    assert report.differ == 1
    assert report.share == 1 / report.rows
    assert {name: (f.rows, f.largest) for name, f in report.features.items()} == {"session_count_30d": (1, 1.0)}
    (shown,) = report.examples
    assert (shown.user, shown.feature, shown.served, shown.computed) == (user, "session_count_30d", was + 1, was)


def test_an_event_lost_from_the_lake_is_found(run: Run) -> None:
    """Were the lake to lose events, what was served would no longer follow from it."""
    lived(run, 6, 150)
    run.flush_lake()
    file = max(files.everything(run.settings.lake), key=files.rows)
    table = pq.ParquetFile(file.path).read()
    pq.write_table(table.filter(pc.invert(pc.equal(table["user"], "u1"))), file.path)
    assert run.compared().differ > 0


def test_a_message_counts_again_after_the_horizon(run: Run) -> None:
    """A message counts once within TELLTALE_DEDUP_HOURS and again beyond: here as in the stream."""
    call = {"type": "track", "event": "Document Viewed", "userId": "u1", "messageId": "m", "timestamp": iso(START)}
    for hours in (0, 40, 60, 200):
        run.door.post(START + hours * 3_600_000, call)
        made.drain(run.engine)
    assert made.features(run.client, VOCABULARY, "u1")["doc_access_count_30d"] == 3
    report = run.compared()
    assert (report.rows, report.differ) == (3, 0)


def test_a_sample_is_a_sample(run: Run) -> None:
    """No more rows than asked for."""
    lived(run, 7, 100)
    assert run.compared(17).rows == 17


def test_what_reaches_back_to_removed_dates_is_not_compared(run: Run) -> None:
    """Windows that begin after the removed dates are; last moments, traits and older windows cannot be."""
    lived(run, 8, 150)
    whole = run.compared()
    report = run.compared(removed_until=files.date_of((START - DAY, 0)))
    assert report.differ == 0
    assert 0 < report.values < whole.values


def test_nothing_served_is_said(run: Run) -> None:
    """A lake without served features has nothing to compare."""
    with pytest.raises(NothingServed, match="TELLTALE_LAKE_FEATURES"):
        run.compared()


def told(run: Run, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "serving.command", "consistency", *words]
    return subprocess.run(command, env=environment(run.settings), capture_output=True, text=True, check=False)


def test_the_command(run: Run, tmp_path: Path) -> None:
    """0 and a line when all is well, 1 when something differs; the result stands where /metrics reads it."""
    lived(run, 9, 100)
    run.flush_lake()
    done = told(run)
    assert done.returncode == 0, done.stderr
    assert "0 differ" in done.stdout
    assert run.client.hget(keys.CONSISTENCY, "share") == b"0.0"
    corrupt(run, "session_count_30d")
    done = told(run, "--json", "--sample", "100000")
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout)["differ"] == 1
    assert float(run.client.hget(keys.CONSISTENCY, "rows_differing") or 0) == 1
