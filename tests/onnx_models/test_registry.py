"""Models are trusted only after checksum, input list and golden answers; else the version before them scores on."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from feature_repo.declare import Service
from feature_repo.services import SERVICES
from onnx_models import card, registry
from onnx_models.registry import Damaged, NoModel, OtherAnswers, OtherInputs, load, newest
from onnx_models.session import SLICE
from training import export, fit
from training.model import BOOSTED

INPUTS = tuple(f"f{i}" for i in range(6))
OLD, NEW = "20260101000000", "20260201000000"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with two versions of a small model."""
    directory = tmp_path_factory.mktemp("models")
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(3000, 6)).astype(np.float32)
    label = rng.random(3000) < fit.sigmoid(rows[:, 0] - 1.0)
    booster = fit.grow(msgspec.structs.replace(BOOSTED, trees=10), rows[:1500], label[:1500], seed=1)
    fitted = fit.calibrate(booster, rows[1500:2500], label[1500:2500])
    for version in (OLD, NEW):
        export.write(directory, fitted, rows[2500:], metadata(version))
    return directory


@pytest.fixture
def models(original: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(original, tmp_path / "models"))


def metadata(version: str) -> card.Metadata:
    return card.Metadata(
        name="small",
        version=version,
        service="likely_to_sell",
        alert="LIKELY_TO_SELL",
        outcome="home_listed",
        horizon_days=90,
        inputs=INPUTS,
        threshold=0.5,
        budget=0.02,
        files={},
        golden=card.Golden([], [], []),
        trained_on={"people": "none"},
        metrics={"later time, ours": {"AUC": 0.8}},
        vocabulary=1,
        packages={},
    )


def edit(place: Path, **changes: object) -> None:
    """Metadata with some fields replaced."""
    file = place / card.METADATA
    file.write_bytes(card.encode(msgspec.structs.replace(card.decode(file.read_bytes()), **changes)))


def test_newest_version(models: Path) -> None:
    """Of two sound versions the newer one is loaded, and nothing is reported as refused."""
    model = newest("small", models, INPUTS)
    assert (model.version, model.refused) == (NEW, ())


@pytest.mark.parametrize("file", [card.ONNX, card.BOOSTER])
@pytest.mark.parametrize("at", [0, 0.5, 0.999])
def test_damaged_file_falls_back(models: Path, file: str, at: float, caplog: pytest.LogCaptureFixture) -> None:
    """One flipped bit in a file: the version is refused by checksum, the one before loads, and that is said."""
    path = models / "small" / NEW / file
    content = bytearray(path.read_bytes())
    content[int(at * len(content))] ^= 1
    path.write_bytes(content)
    model = newest("small", models, INPUTS)
    assert model.version == OLD
    assert "expected sha256" in model.refused[0]
    assert str(path) in caplog.text


def test_missing_or_broken_metadata_falls_back(models: Path) -> None:
    """A version whose metadata cannot be read is passed over."""
    (models / "small" / NEW / card.METADATA).write_bytes(b'{"name": "small"')
    assert newest("small", models, INPUTS).version == OLD


def test_other_answers_are_refused(models: Path) -> None:
    """A graph that answers the golden rows otherwise than its trainer is refused, even with the right checksum."""
    place = models / "small" / NEW
    golden = card.decode((place / card.METADATA).read_bytes()).golden
    edit(place, golden=msgspec.structs.replace(golden, calibrated=[x + 1e-3 for x in golden.calibrated]))
    with pytest.raises(OtherAnswers, match="calibrated answers to golden rows"):
        load("small", NEW, models, INPUTS)


def test_a_model_without_golden_rows_is_refused(models: Path) -> None:
    """No golden rows, no trust."""
    edit(models / "small" / NEW, golden=card.Golden([[0.0] * 6], [], []))
    with pytest.raises(OtherAnswers):
        load("small", NEW, models, INPUTS)


def test_no_onnx_at_all(models: Path) -> None:
    """A file that is no ONNX, though its checksum is right, is refused and not a crash."""
    place = models / "small" / NEW
    (place / card.ONNX).write_bytes(b"no graph")
    files = card.decode((place / card.METADATA).read_bytes()).files
    edit(place, files=files | {card.ONNX: registry.digest(b"no graph")})
    with pytest.raises(Damaged, match="expected an ONNX model of 6 inputs"):
        load("small", NEW, models, INPUTS)


def test_other_inputs_are_refused(models: Path) -> None:
    """A model trained on another input list than the service states is refused, and the difference named."""
    with pytest.raises(OtherInputs, match=r"not in both: \['f5', 'g5'\]"):
        load("small", NEW, models, (*INPUTS[:5], "g5"))
    with pytest.raises(OtherInputs, match="in another order"):
        load("small", NEW, models, INPUTS[::-1])


def test_no_model_names_every_reason(models: Path) -> None:
    """When no version can be trusted, the error names each and why; and without any, where they were expected."""
    for version in (OLD, NEW):
        (models / "small" / version / card.ONNX).unlink()
    with pytest.raises(NoModel, match=f"{NEW}.*{OLD}"):
        newest("small", models, INPUTS)
    with pytest.raises(NoModel, match="expected a version directory"):
        newest("absent", models)


def test_rows_that_are_not_finite_get_no_score(models: Path) -> None:
    """A row with NaN or infinity scores NaN; its neighbours score as they would alone."""
    model = newest("small", models, INPUTS)
    rows = np.zeros((5, 6), np.float32)
    rows[1, 2], rows[3, 5] = np.nan, np.inf
    found = model.score(rows)
    assert np.isnan(found).tolist() == [False, True, False, True, False]
    assert (found[[0, 2, 4]] == model.score(rows[:1])[0]).all()


def test_scores_do_not_depend_on_company(models: Path) -> None:
    """A row scores the same alone and among others, across slices, and no rows give no scores."""
    model = newest("small", models, INPUTS)
    rows = np.random.default_rng(1).normal(size=(2 * SLICE + 3, 6)).astype(np.float32)
    alone = np.array([model.score(row[None])[0] for row in rows])
    assert np.array_equal(model.score(rows), alone)
    assert model.score(rows[:0]).shape == (0,)


def test_raw_and_calibrated(models: Path) -> None:
    """Both outputs are probabilities and rank rows alike."""
    raw, calibrated = newest("small", models, INPUTS).scores(np.random.default_rng(2).normal(size=(50, 6)))
    assert ((raw > 0) & (raw < 1) & (calibrated > 0) & (calibrated < 1)).all()
    assert (np.diff(calibrated[np.argsort(raw)]) >= 0).all()


@pytest.mark.parametrize("service", [s for s in SERVICES if s.alert], ids=lambda s: s.name)
def test_shipped_models(service: Service) -> None:
    """Each alert service ships a model that passes every check, alerts from 50 % on and says whom it knows."""
    model = newest(service.name)
    assert model.refused == ()
    assert model.metadata.alert == service.alert
    assert model.threshold >= 0.5
    assert "Not for decisions about real ones" in (model.directory / card.CARD).read_text()
    assert sum(file.stat().st_size for file in model.directory.iterdir()) < 1_000_000


@pytest.mark.parametrize("service", [s for s in SERVICES if s.alert], ids=lambda s: s.name)
def test_shipped_models_rank_between_their_rule_and_the_best(service: Service) -> None:
    """Later, on unseen people and in a second world each ranks better than its rule; none beats the hidden state."""
    metrics = newest(service.name).metadata.metrics
    for where in ("later time", "unseen people", "second world"):
        best, ours, rule = (metrics[f"{where}, {who}"]["ROC-AUC"] for who in ("best reachable", "ours", "rule"))
        assert rule < ours < best
