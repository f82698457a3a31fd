"""What becomes of a version: gates, then the registry; a directory is there whole or not at all."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from feature_repo.declare import Service
from feature_repo.vocabulary import Vocabulary
from onnx_models import card
from onnx_models.library import Library
from onnx_models.making import bury
from onnx_models.registry import Conflict
from onnx_models.session import ONNX_ERRORS
from tests.training import made_rows
from training import gates, job, publish
from training.catalogue import MODELS
from training.job import Made, Origin
from training.model import Gates, Training
from training.progress import Progress
from training.training_set import service_of

NAME = "likely_to_sell"
VOCABULARY = Vocabulary()
SERVICE: Service = service_of(VOCABULARY, NAME)
TRAINING: Training = made_rows.quick(MODELS[NAME])
GOOD = {"ROC-AUC": 0.8, "PR-AUC": 0.5, "Brier skill": 0.2, "calibration error": 0.02, "calibration slope": 1.1}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A model that passes its gates."""
    place = tmp_path_factory.mktemp("rows")
    training = msgspec.structs.replace(TRAINING, gates=Gates(slope=(0.0, 9.0), calibration_error=1.0, beats_rule=False))
    rows = made_rows.examples(place, VOCABULARY, training, SERVICE, made_rows.table(training, SERVICE))
    slices = job.sliced(training, SERVICE, rows)
    return job.make(training, SERVICE, VOCABULARY, slices, Origin(simulated=False, told={}), Progress())


def stopped(made: Made) -> Made:
    """The same, but for a gate."""
    gate = card.Gate("ROC-AUC, against the serving version's", "0.9 or more", 0.7, passed=False)
    metadata = msgspec.structs.replace(made.metadata, gates=(*made.metadata.gates, gate))
    return msgspec.structs.replace(made, metadata=metadata)


def test_the_first_is_deployed_the_next_waits_in_the_shadow(made: Made, tmp_path: Path) -> None:
    """And one that is asked to serve at once does."""
    library = Library(tmp_path / "home", tmp_path / "shipped")
    first, second, third = (publish.register(library, made, "a test", promote=nth == 2) for nth in range(3))
    assert [found.state for found in (first, second, third)] == ["DEPLOYED", "SHADOW", "DEPLOYED"]
    versions = library.versions(NAME)
    assert len(versions) == 3
    assert library.deployed(NAME).version == versions[2] == third.metadata.version
    assert [change.state for change in library.book(NAME).history][:4] == [
        "TRAINING",
        "VALIDATING",
        "SHADOW",
        "DEPLOYED",
    ]


def test_what_a_gate_stopped_is_never_deployed(made: Made, tmp_path: Path) -> None:
    """It is retired with the reason, though it is the only one and was to be promoted."""
    library = Library(tmp_path / "home", tmp_path / "shipped")
    found = publish.register(library, stopped(made), "a test", promote=True)
    assert found.state == "RETIRED"
    assert found.why == "ROC-AUC, against the serving version's: expected 0.9 or more, got 0.7"
    with pytest.raises(Conflict, match="a version that passed its gates"):
        library.promote(NAME, found.metadata.version, "somebody", "in a hurry")
    assert library.current(NAME) is None


def test_a_version_is_its_makers_until_it_is_done(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks for makers that were killed meanwhile lets it be."""
    library = Library(tmp_path / "home", tmp_path / "shipped")
    write = publish.write

    def looked_at(directory: Path, made: Made) -> Path:
        assert bury(library, NAME)
        return write(directory, made)

    monkeypatch.setattr(publish, "write", looked_at)
    assert publish.register(library, made, "a test", promote=False).state == "DEPLOYED"
    assert not bury(library, NAME)


def test_a_job_that_breaks_leaves_nothing_to_be_deployed(made: Made, tmp_path: Path) -> None:
    """The registry tells why; no directory is left, half or whole."""
    library = Library(tmp_path / "home", tmp_path / "shipped")
    worse = msgspec.structs.replace(made, held_out=made.held_out[:, :-1])
    with pytest.raises(ONNX_ERRORS):
        publish.register(library, worse, "a test", promote=True)
    assert list((tmp_path / "home").rglob("*.onnx")) == []
    (why,) = library.book(NAME).failed.values()
    assert why.startswith("training ended early: ")


def test_a_directory_takes_good_versions_alone(made: Made, tmp_path: Path) -> None:
    """Past the registry nothing would say that a gate stopped it, so nothing is written."""
    with pytest.raises(publish.Failed, match="a gate stopped it, nothing was written"):
        publish.into(tmp_path, stopped(made))
    assert list(tmp_path.iterdir()) == []
    place = publish.into(tmp_path, made)
    assert sorted(file.name for file in place.iterdir()) == sorted(
        [
            "CARD.md",
            "calibration.png",
            "importance.png",
            "metadata.json",
            "model.onnx",
            "model.ubj",
            "roc.png",
            "scores.png",
        ]
    )


@pytest.mark.parametrize(
    ("ours", "says"),
    [
        ({"ROC-AUC": 0.5}, "ROC-AUC: expected 0.6 or more, got 0.5"),
        ({"Brier skill": -0.01}, "Brier skill against the base rate: expected 0 or more, got -0.01"),
        ({"calibration error": 0.2}, "calibration error: expected 0.1 or less, got 0.2"),
        ({"calibration slope": float("nan")}, "calibration slope: expected 0.5 to 2, got nan"),
        ({"PR-AUC": 0.1}, "PR-AUC, against the rule's: expected 0.3 or more, got 0.1"),
        ({"ROC-AUC": 0.78}, "ROC-AUC, against the serving version's: expected 0.79 or more, got 0.78"),
    ],
)
def test_each_gate_stops_what_is_worse(ours: dict[str, float], says: str) -> None:
    """Than a fixed figure, than the rule, or than what serves, on the same rows."""
    assert gates.failed(gates.passed(Gates(), GOOD, {"PR-AUC": 0.3}, GOOD, 1.0)) == ""
    assert gates.failed(gates.passed(Gates(), GOOD | ours, {"PR-AUC": 0.3}, GOOD, 1.0)).startswith(says)


def test_a_slow_model_is_stopped() -> None:
    """So that the stream keeps its pace."""
    assert gates.failed(gates.passed(Gates(), GOOD, None, None, 50.0)).startswith("microseconds a row: expected 10")
