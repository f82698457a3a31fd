"""`telltale train NAME --labels FILE`: a model of one's own domain, from one's own labels."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

from feature_repo.vocabulary import load
from onnx_models import card
from onnx_models.library import Library
from serving.starter import init
from tests import shop
from tests.live import ROOT
from training import job
from training.job import Made
from training.labels import Labels, read
from training.model import Gates, Label, Search, Training
from training.progress import Progress
from training.training_set import Wanted, service_of
from training.validate import NotTrainable

NAME = "likely_to_cancel"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a shop's domain, history and labels."""
    place = tmp_path_factory.mktemp("shop")
    init(place / "shop")
    shop.write(place)
    return place


def train(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "training", "train", *words]
    environ = {"TELLTALE_HOME": str(place / "home"), "TELLTALE_FEATURE_REPO": str(place / "shop")}
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False)


def attempt(place: Path, asked: Labels) -> Made:
    """The job within this process."""
    vocabulary = load(str(place / "shop"))
    wanted = Wanted(history=place / "history.jsonl", vocabulary=vocabulary)
    service = service_of(vocabulary, NAME)
    training = Training(
        service=NAME,
        label=Label(horizon_days=30),
        budget=1.0,
        telling=service.telling,
        search=Search(trials=2),
        gates=Gates(roc_auc=0.0, brier_skill=-1.0, slope=(-9.0, 9.0)),
    )
    return job.taught(wanted, asked, training, service, Progress())


def test_the_version_that_is_trained_first_is_deployed(place: Path) -> None:
    """It ranks later time well, is trusted under the domain's own input list, and its card tells of no simulation."""
    words = ("--labels", str(place / "labels.csv"), "--history", str(place / "history.jsonl"))
    ended = train(place, NAME, *words)
    assert ended.returncode == 0, ended.stderr
    vocabulary = load(str(place / "shop"))
    model = Library(place / "home" / "onnx_models").deployed(NAME, vocabulary.services[0].features)
    assert str(model.directory) in ended.stdout
    assert 0.85 < model.metadata.metrics["later time, ours"]["ROC-AUC"] < 0.99
    assert (model.metadata.alert, model.metadata.outcome) == ("LIKELY_TO_CANCEL", "cancelled")
    text = (model.directory / card.CARD).read_text()
    assert "simulat" not in text
    assert "2026-" in text


def test_shuffled_labels_teach_nothing(place: Path) -> None:
    """Labels that say nothing rank later time as chance does, or not even that: nothing leaks into the features."""
    asked = read(place / "labels.csv")
    shuffled = np.random.default_rng(1).permutation(asked.table["label"].to_numpy())
    at = asked.table.column_names.index("label")
    try:
        made = attempt(place, Labels(asked.table.set_column(at, "label", pa.array(shuffled))))
    except NotTrainable as error:
        assert "teach it nothing" in str(error)  # noqa: PT017  # either may be
    else:
        assert 0.38 < made.metadata.metrics["later time, ours"]["ROC-AUC"] < 0.62


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ("user,as_of,left\na,2026-02-01,1\n", "expected a column label, got user, as_of, left"),
        ("user,as_of,label\na,2026-02-01,1\nb,2026-02-01,2\n", "row 2, column label: expected 0 or 1, got 2.0"),
        ("user,as_of,label\na,2026-02-01,yes\n", "column label: expected 0 or 1 in every row"),
        (
            "user,as_of,label\na,2026-02-01,1\nb,2026-02-01,1\n",
            "expected 100 rows or more, got 2; expected labels of both kinds, got 1 in every row",
        ),
        (
            "user,as_of,label,visits_7d,left\na,2026-02-01,3,many,2026-03-01\n",
            r"left: expected no time after as_of.*; the labels, row 1, column label: .*column visits_7d: expected",
        ),
    ],
)
def test_what_is_wrong_is_said_all_at_once(place: Path, tmp_path: Path, labels: str, says: str) -> None:
    """Labels that cannot teach end in words, not in a model."""
    (tmp_path / "labels.csv").write_text(labels)
    with pytest.raises(NotTrainable, match=says):
        attempt(place, read(tmp_path / "labels.csv"))


def test_unknown_services_are_named(place: Path) -> None:
    """A name that is no service, and a domain of one's own simulated: exit code 2 and one line."""
    ended = train(place, "likely_to_stay", "--labels", str(place / "labels.csv"))
    said = "telltale: expected a service among likely_to_cancel; got 'likely_to_stay'\n"
    assert (ended.returncode, ended.stderr) == (2, said)
    ended = train(place, NAME, "--simulated")
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "expected --labels FILE" in ended.stderr
