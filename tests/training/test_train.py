"""`telltale train`: a new version from simulated people, verified, with a card that says how good it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from onnx_models import card, registry
from tests.live import ROOT
from training.report import together


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A directory of models, and what the command printed."""
    directory = tmp_path_factory.mktemp("models")
    sizes = ("--people", "1500", "--judged", "300", "--share", "0.06")
    command = [sys.executable, "-m", "training", "train", "refinance_opportunity", *sizes, "--output", str(directory)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    return directory, ended.stdout


def test_the_version_is_trusted(trained: tuple[Path, str]) -> None:
    """The registry loads what the command wrote: checksums, inputs and golden answers hold."""
    model = registry.newest("refinance_opportunity", trained[0])
    assert (model.metadata.alert, model.metadata.outcome) == ("REFINANCE_OPPORTUNITY", "loan_refinanced")
    assert model.threshold >= 0.5
    assert str(model.directory) in trained[1]


def test_the_card_says_how_good_and_for_whom(trained: tuple[Path, str]) -> None:
    """Its card says that the people are simulated, and sets the model beside its rivals on each set."""
    model = registry.newest("refinance_opportunity", trained[0])
    text = (model.directory / card.CARD).read_text()
    assert "Trained on simulated people. Not for decisions about real ones" in text
    for where in ("later time", "unseen people", "second world"):
        for who in ("ours", "best reachable", "rule", "logistic regression"):
            assert f"| {where}, {who} |" in text


def test_together_counts_alerts_of_all_models() -> None:
    """Precision over several models is that of all their alerts, not the mean of their precisions."""
    rate = "alerts a year and active person"
    found = together(
        [
            {"later": {"alerts": 9.0, rate: 0.03, "precision": 1.0}},
            {"later": {"alerts": 1.0, rate: 0.01, "precision": 0.0}},
            {"later": {"alerts": 0.0, rate: 0.0}},
        ]
    )
    assert found["later"]["precision"] == 0.9
    assert found["later"][rate] == pytest.approx(0.04)


def test_too_few_people_end_in_one_line(tmp_path: Path) -> None:
    """When nobody in a set had the outcome, the command says so, and what to do."""
    sizes = ("--people", "40", "--judged", "10", "--output", str(tmp_path))
    command = [sys.executable, "-m", "training", "train", "investment_interest", *sizes]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("investment_made: expected some of ")
    assert ended.stderr.endswith("take more people\n")


def test_unknown_names_end_in_one_line(tmp_path: Path) -> None:
    """A name that no file describes: exit code 2, one line that lists those there are."""
    command = [sys.executable, "-m", "training", "train", "likely_to_move", "--output", str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "expected a model among" in ended.stderr
    assert not np.any([path.is_dir() for path in tmp_path.iterdir()])
