"""`telltale backfill`: rows of (user, as_of) come back with the features of their moment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from feature_repo.vocabulary import Vocabulary
from flows.plan import Plan
from tests.live import ROOT
from training.asked import backfill
from training.backfill import features, stream
from training.feed import Feed, user
from training.past import NotReadable
from training.simulate import EPOCH, simulate

VOCABULARY = Vocabulary()
HISTORY = simulate(30, 120, seed=9)


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated history as JSON lines of Segment calls, some of which come twice."""
    feed = Feed(HISTORY, "test")
    path = tmp_path_factory.mktemp("past") / "history.jsonl"
    calls = feed.calls(0, len(feed))
    path.write_bytes(b"\n".join(calls + calls[100:200]))  # some twice
    return path


def asked(path: Path, users: list[str], at: np.ndarray) -> Path:
    pyarrow.parquet.write_table(
        pa.table({"user": users, "as_of": pa.array(at, pa.timestamp("ms")), "note": users}), path
    )
    return path


def test_features_as_of(lines: Path, tmp_path: Path) -> None:
    """JSON lines give, bit for bit, the features that the simulated events themselves give; other columns stay."""
    rng = np.random.default_rng(1)
    person, at = rng.integers(0, 30, 50), rng.integers(HISTORY.start, HISTORY.end, 50)
    output = tmp_path / "out.parquet"
    backfill(lines, asked(tmp_path / "in.parquet", [user(p) for p in person], at), output, VOCABULARY)
    found = pyarrow.parquet.read_table(output)
    expected = features(Plan(VOCABULARY), stream(HISTORY, VOCABULARY), person, at)
    for i, feature in enumerate(VOCABULARY.features):
        assert np.array_equal(found[feature.name].to_numpy(), expected[:, i]), feature.name
    assert found["note"].to_pylist() == [user(p) for p in person]


def test_unknown_people_get_defaults(lines: Path, tmp_path: Path) -> None:
    """Somebody whom the history does not know has the features of one who never did anything."""
    output = tmp_path / "out.parquet"
    backfill(lines, asked(tmp_path / "in.parquet", ["nobody"], np.array([HISTORY.end])), output, VOCABULARY)
    found = pyarrow.parquet.read_table(output)
    assert [found[f.name][0].as_py() for f in VOCABULARY.features] == [f.default for f in VOCABULARY.features]


def test_command_reads_csv(lines: Path, tmp_path: Path) -> None:
    """The command takes CSV with ISO times and says how many rows it wrote."""
    rows, output = tmp_path / "in.csv", tmp_path / "out.parquet"
    rows.write_text("user,as_of\nperson-000001,2023-03-01T12:00:00Z\nperson-000002,2023-04-01T00:00:00Z\n")
    command = [sys.executable, "-m", "training", "backfill", str(rows), str(output), "--history", str(lines)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (0, f"{output}: 2 rows\n")
    assert pyarrow.parquet.read_table(output).num_columns == 2 + len(VOCABULARY.features)


def test_bad_lines_are_named(tmp_path: Path) -> None:
    """A line that is no call, or has no time, is named with its number."""
    history = tmp_path / "history.jsonl"
    question = asked(tmp_path / "in.parquet", ["a"], np.array([EPOCH]))
    for bad in (b"{", b'{"type": "track", "event": "Document Viewed", "userId": "a"}', b"\xff"):
        history.write_bytes(b'{"type":"identify","userId":"a","timestamp":"2023-01-01T00:00:00Z"}\n' + bad)
        with pytest.raises(NotReadable, match="line 2: expected a Segment call"):
            backfill(history, question, tmp_path / "out.parquet", VOCABULARY)


def test_missing_columns_are_named(lines: Path, tmp_path: Path) -> None:
    """Rows without `as_of` are refused by name."""
    (tmp_path / "in.csv").write_text("user,when\na,2023-01-01\n")
    with pytest.raises(NotReadable, match=r"\['as_of'\] is missing"):
        backfill(lines, tmp_path / "in.csv", tmp_path / "out.parquet", VOCABULARY)
