"""With MLFLOW_TRACKING_URI set a run is logged there too; where it cannot be, the version stands all the same."""

from __future__ import annotations

import importlib.util
import sqlite3
from pathlib import Path

import pytest

from onnx_models import card
from onnx_models.library import Library
from onnx_models.registry import HERE
from training import tracking
from training.publish import Published

NAME = "likely_to_sell"
WITH = importlib.util.find_spec("mlflow") is not None


@pytest.fixture
def published() -> Published:
    """A version that ships, as if it had been trained now."""
    model = Library(HERE).deployed(NAME)
    return Published(model.metadata, model.directory, "SHADOW", "passed its gates")


@pytest.mark.skipif(not WITH, reason="mlflow is not installed: pip install -e '.[mlflow]'")
@pytest.mark.filterwarnings("default")  # MLflow's own
def test_a_run_is_logged(published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an experiment of the model's name, with its figures, its state and its files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(tracking.URI, f"sqlite:///{tmp_path}/runs.db")
    tracking.log(published)
    with sqlite3.connect(tmp_path / "runs.db") as runs:
        (experiment,) = runs.execute("SELECT name FROM experiments WHERE name != 'Default'").fetchone()
        metrics = dict(runs.execute("SELECT key, value FROM latest_metrics").fetchall())
        tags = dict(runs.execute("SELECT key, value FROM tags").fetchall())
    assert experiment == NAME
    ours = published.metadata.metrics["later time, ours"]
    assert {name for name in metrics if name.startswith("later time  ours/")} == {
        tracking._spelled(f"later time, ours/{name}") for name in ours
    }
    assert tags["state"] == "SHADOW"
    assert len(list(tmp_path.rglob(card.ONNX))) == 1


@pytest.mark.skipif(WITH, reason="mlflow is installed")
def test_without_mlflow_one_line_says_so(
    published: Published, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is missing, and how to get it."""
    monkeypatch.setenv(tracking.URI, "http://127.0.0.1:1")
    tracking.log(published)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "mlflow is not installed" in said
    assert "pip install 'telltale[mlflow]'" in said


def test_nothing_is_logged_unless_it_is_asked_for(
    published: Published, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the variable nothing is said or sought."""
    monkeypatch.delenv(tracking.URI, raising=False)
    tracking.log(published)
    assert capsys.readouterr().err == ""
