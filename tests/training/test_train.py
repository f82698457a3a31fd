"""`telltale train --simulated`: a new version from simulated people, judged, registered, with a card."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from onnx_models import card
from onnx_models.library import Library
from onnx_models.registry import HERE, ModelError
from tests.live import ROOT
from training.progress import STEPS
from training.report import together

NAME = "refinance_opportunity"


class Trained(msgspec.Struct):
    """What the command left: its exit code, what it said, the home, and the lines of its progress."""

    code: int
    said: str
    home: Path
    progress: list[dict[str, Any]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The command on a few people, too few to be as good as what ships."""
    home = tmp_path_factory.mktemp("home")
    few = ("--people", "1500", "--judged", "200", "--share", "0.06", "--trials", "2")
    command = [sys.executable, "-m", "training", "train", NAME, "--simulated", *few, "--progress"]
    environ = {"TELLTALE_HOME": str(home)}
    ended = subprocess.run(
        [*command, str(home / "progress")],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    lines = [msgspec.json.decode(line) for line in (home / "progress").read_bytes().splitlines()]
    return Trained(ended.returncode, ended.stdout + ended.stderr, home, lines)


def test_a_worse_version_cannot_be_deployed(trained: Trained) -> None:
    """The gate sets it beside what serves on the same rows, and retires it; what serves goes on, whoever asks."""
    assert (trained.code, "RETIRED" in trained.said) == (2, True), trained.said
    library = Library(trained.home / "onnx_models", HERE)
    version = library.versions(NAME)[-1]
    assert library.states(NAME)[version] == "RETIRED"
    assert library.deployed(NAME).version != version
    with pytest.raises(ModelError, match="a version that passed its gates; it was stopped"):
        library.promote(NAME, version, "somebody", "in a hurry")


def test_progress_ends_with_the_result(trained: Trained) -> None:
    """Whoever started the job reads its steps in order, and at the end what became of the version, and why."""
    *steps, last = trained.progress
    assert list(dict.fromkeys(line["step"] for line in steps)) == list(STEPS)
    assert {"model": NAME, "step": "tune", "done": 2, "of": 2} in steps
    (result,) = last["result"]
    assert (result["model"], result["state"]) == (NAME, "RETIRED")
    assert not all(gate["passed"] for gate in result["gates"])
    assert 0.5 < result["metrics"]["ROC-AUC"] < 1


def test_the_card_says_how_good_and_for_whom(trained: Trained) -> None:
    """Its card says that the people are simulated, and sets the model beside its rivals on each set."""
    place = next((trained.home / "onnx_models" / NAME).glob("2*"))
    text = (place / card.CARD).read_text()
    assert "Trained on simulated people. Not for decisions about real ones" in text
    for where in ("later time", "unseen people", "second world"):
        for who in ("ours", "serving version", "best reachable", "rule", "logistic regression"):
            assert f"| {where}, {who} |" in text


def test_together_counts_alerts_of_all_models() -> None:
    """Precision over several models is that of all their alerts, not the mean of their precisions."""
    rate = "alerts a year and active person"
    found = together(
        [
            {"later": {"alerts": 9.0, rate: 0.03, "alert precision": 1.0}},
            {"later": {"alerts": 1.0, rate: 0.01, "alert precision": 0.0}},
            {"later": {"alerts": 0.0, rate: 0.0}},
        ]
    )
    assert found["later"]["alert precision"] == 0.9
    assert found["later"][rate] == pytest.approx(0.04)


def test_too_few_people_end_in_one_line(tmp_path: Path) -> None:
    """When nobody in a set had the outcome, the command says so, and what to do."""
    sizes = ("--people", "40", "--judged", "10", "--output", str(tmp_path))
    command = [sys.executable, "-m", "training", "train", "investment_interest", "--simulated", *sizes]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("telltale: investment_made: expected some of ")
    assert ended.stderr.endswith("take more people\n")


def test_unknown_names_end_in_one_line(tmp_path: Path) -> None:
    """A name that no file describes: exit code 2, one line that lists those there are."""
    command = [sys.executable, "-m", "training", "train", "likely_to_move", "--simulated", "--output", str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "expected a model among" in ended.stderr
    assert not np.any([path.is_dir() for path in tmp_path.iterdir()])
