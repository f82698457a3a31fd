"""`telltale train NAME --labels FILE`: a model of one's own domain, from one's own labels."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

from feature_repo.finish import DAY
from feature_repo.vocabulary import load
from onnx_models import card, registry
from serving.starter import init
from tests import shop
from tests.live import ROOT
from training import labelled
from training.dataset import TooFew
from training.labelled import Options, Rows
from training.labels import Labels, read
from training.past import NotReadable
from training.training_set import Wanted, service_of

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


def attempt(place: Path, asked: Labels, options: Options) -> card.Metadata:
    """The job within this process."""
    vocabulary = load(str(place / "shop"))
    wanted = Wanted(history=place / "history.jsonl", vocabulary=vocabulary)
    return labelled.train(wanted, asked, service_of(vocabulary, NAME), options, place / "models")


def test_a_version_is_written_beside_the_domain(place: Path) -> None:
    """It ranks later time well, is trusted under the domain's own input list, and its card tells of no simulation."""
    words = ("--labels", str(place / "labels.csv"), "--history", str(place / "history.jsonl"))
    ended = train(place, NAME, *words)
    assert ended.returncode == 0, ended.stderr
    vocabulary = load(str(place / "shop"))
    model = registry.newest(NAME, place / "shop" / "onnx_models", vocabulary.services[0].features)
    assert str(model.directory) in ended.stdout
    assert 0.85 < model.metadata.metrics["later time, ours"]["AUC"] < 0.99
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
        made = attempt(place, Labels(asked.table.set_column(at, "label", pa.array(shuffled))), Options())
    except TooFew as error:
        assert "teach it nothing" in str(error)  # noqa: PT017  # either may be
    else:
        assert 0.38 < made.metrics["later time, ours"]["AUC"] < 0.62


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ("user,as_of,left\na,2026-02-01,1\n", "expected a column label, got user, as_of, left"),
        ("user,as_of,label\na,2026-02-01,1\nb,2026-02-01,2\n", "row 2, column label: expected 0 or 1, got 2.0"),
        ("user,as_of,label\na,2026-02-01,yes\n", "column label: expected 0 or 1 in every row"),
        ("user,as_of,label\na,2026-02-01,1\nb,2026-02-01,1\n", "expected rows with the outcome and rows without"),
    ],
)
def test_what_is_wrong_is_said(place: Path, tmp_path: Path, labels: str, says: str) -> None:
    """Labels that cannot teach end in words, not in a model."""
    (tmp_path / "labels.csv").write_text(labels)
    with pytest.raises((NotReadable, TooFew), match=says):
        attempt(place, read(tmp_path / "labels.csv"), Options())


def test_unknown_services_are_named(place: Path) -> None:
    """A name that is no service, and a domain of one's own without labels: exit code 2 and one line."""
    ended = train(place, "likely_to_stay", "--labels", str(place / "labels.csv"))
    assert (ended.returncode, ended.stderr) == (2, "expected a service among likely_to_cancel; got 'likely_to_stay'\n")
    ended = train(place, NAME)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "expected --labels FILE" in ended.stderr


def made_rows(person: list[int], days: list[int]) -> Rows:
    n = len(person)
    return Rows(np.array(person), np.array(days) * DAY, np.zeros((n, 1), np.float32), np.ones(n), np.zeros(n, bool))


def test_slices_follow_each_other_with_a_gap() -> None:
    """A row whose label was decided within the next slice is in none."""
    these = made_rows([0] * 10, list(range(0, 100, 10)))
    parts = [np.flatnonzero(part).tolist() for part in labelled._slices(these, Options(horizon_days=20))]
    assert parts == [[0, 1, 2, 3, 4], [6], [8, 9]]


def test_a_case_stays_in_the_slice_in_which_it_began() -> None:
    """However long it lasts: its rows share one outcome."""
    person = [i for i in range(10) for _ in range(2)]
    days = [i * 10 + extra for i in range(10) for extra in (0, 50)]
    parts = [np.flatnonzero(part).tolist() for part in labelled._slices(made_rows(person, days), Options(cases=True))]
    assert parts == [list(range(12)), list(range(12, 16)), list(range(16, 20))]
