"""What holds of every model in the catalogue, whichever it is: trained here on a few made rows."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from feature_repo.declare import Service
from feature_repo.vocabulary import Vocabulary
from onnx_models import card, registry
from onnx_models.confidence import recommended
from onnx_models.session import score_graph
from tests.training import made_rows
from training import export, job, plots, publish
from training.catalogue import MODELS
from training.examples import Examples
from training.fit import Fitted
from training.job import Made, Origin
from training.model import Training
from training.progress import Progress
from training.training_set import service_of

VOCABULARY = Vocabulary()
HEADINGS = (
    "What it says",
    "From what",
    "How good it is",
    "When to trust it",
    "When inputs are missing",
    "What it had to reach",
    "Who must not use it",
    "How it was made",
)


class Case(msgspec.Struct):
    """One model, its rows, a copy of them from before, what was made of them, and where it lies."""

    training: Training
    service: Service
    rows: Examples
    before: Examples
    made: Made
    place: Path


@pytest.fixture(scope="module", params=sorted(MODELS))
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    place = tmp_path_factory.mktemp("models")
    training, service = made_rows.quick(MODELS[request.param]), service_of(VOCABULARY, request.param)
    rows = made_rows.examples(place, VOCABULARY, training, service, made_rows.table(training, service))
    before = rows.those(np.arange(len(rows)))
    made = make(training, service, rows)
    return Case(training, service, rows, before, made, publish.write(place, made))


def make(training: Training, service: Service, rows: Examples) -> Made:
    origin = Origin(simulated=False, told={"labels": "made"})
    return job.make(training, service, VOCABULARY, job.sliced(training, service, rows), origin, Progress())


def test_it_learns(case: Case) -> None:
    """On rows kept aside it ranks far better than chance, and says so with an interval around it."""
    ours = case.made.metadata.metrics["later time, ours"]
    low, high = case.made.metadata.intervals["later time, ours"]["ROC-AUC"]
    assert 0.6 < ours["ROC-AUC"] < 0.99
    assert low < ours["ROC-AUC"] < high


def test_it_is_the_same_by_seed(case: Case) -> None:
    """The same rows and seed give the same graph, byte for byte, and the same figures."""
    again = make(case.training, case.service, case.rows)
    inputs, (one, other) = len(case.service.features), (again.fitted, case.made.fitted)
    assert isinstance(one, Fitted)
    assert isinstance(other, Fitted)
    assert export.graph(one, inputs) == export.graph(other, inputs)
    mine, its = ({**msgspec.structs.asdict(made.metadata), "version": "", "gates": ()} for made in (case.made, again))
    assert mine == its


def test_onnx_equals_the_trainer(case: Case) -> None:
    """Within 1e-5, on rows beyond all that it has seen."""
    rng = np.random.default_rng(2)
    rows = (rng.normal(0, 1, (2000, len(case.service.features))) * 10.0 ** rng.integers(-2, 7, (2000, 1))).astype("f4")
    _, calibrated = score_graph((case.place / card.ONNX).read_bytes(), rows)
    assert np.abs(calibrated - case.made.fitted.calibrated(rows)).max() <= 1e-5


def test_the_registry_trusts_it(case: Case) -> None:
    """Checksums, inputs and golden answers hold; the booster for explanations is a file of XGBoost's own, no pickle."""
    model = registry.load(case.service.name, case.place.name, case.place.parents[1], case.service.features)
    assert model.threshold == case.made.metadata.threshold
    assert (case.place / card.BOOSTER).read_bytes()[:1] == b"{"  # UBJSON of an object


def test_what_is_missing_counts_as_its_default(case: Case, tmp_path: Path) -> None:
    """A file with empty cells gives the rows of one that states the declared defaults, and tells where."""
    table = made_rows.table(case.training, case.service)
    filled = table
    for i, name in enumerate(case.service.features):
        column = table[name].combine_chunks()
        full = column.fill_null(VOCABULARY.default(name))
        filled = filled.set_column(filled.column_names.index(name), name, full)
        assert np.array_equal(np.sort(case.rows.unknown[:, i]), np.sort(np.asarray(column.is_null())))
    told = made_rows.examples(tmp_path, VOCABULARY, case.training, case.service, filled)
    assert np.array_equal(told.features, case.rows.features)
    assert not told.unknown.any()
    assert case.made.metadata.defaults == tuple(VOCABULARY.default(name) for name in case.service.features)


def test_an_input_that_the_file_lacks_is_its_default_everywhere(case: Case, tmp_path: Path) -> None:
    """Nothing is known of these people, so an input without a column stands at its default."""
    name = case.service.features[-1]
    table = made_rows.table(case.training, case.service).drop_columns([name])
    rows = made_rows.examples(tmp_path, VOCABULARY, case.training, case.service, table)
    assert (rows.features[:, -1] == np.float32(VOCABULARY.default(name))).all()
    assert rows.unknown[:, -1].all()


def test_no_row_is_changed(case: Case) -> None:
    """Training leaves its rows as they were."""
    for field in ("person", "at", "features", "sure", "label", "defaulted"):
        assert np.array_equal(getattr(case.before, field), getattr(case.rows, field))
        assert not np.shares_memory(getattr(case.before, field), getattr(case.rows, field))


def test_the_card_is_complete(case: Case) -> None:
    """It says what, from what, how good, when to trust it, what is lost without inputs, and who must not use it."""
    text = (case.place / card.CARD).read_text()
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == list(HEADINGS)
    for file in plots.FILES:
        assert f"({file})" in text
        assert 2_000 < (case.place / file).stat().st_size < 40_000
    for gate in case.made.metadata.gates:
        assert f"| {gate.name} |" in text
    for recommendation in case.training.recommendations:
        assert f"{recommendation.action} | {recommendation.probability:g} |" in text
        assert f"| {recommendation.level}" in text
    assert " nan" not in text


def test_the_metadata_is_complete(case: Case) -> None:
    """Shares of importance sum to one; each input and the score have a histogram of every row; bands hold all rows."""
    m = case.made.metadata
    slices = job.sliced(case.training, case.service, case.rows)
    assert sum(m.importance.values()) == pytest.approx(1.0, abs=1e-4)
    assert set(m.histograms) == {*case.service.features, "score"}
    for histogram in m.histograms.values():
        assert len(histogram.edges) == len(histogram.counts) + 1
        assert sum(histogram.counts) == len(slices.train)
    assert m.histograms[case.service.features[0]].missing == pytest.approx(made_rows.MISSING, abs=0.06)
    assert sum(band.rows for band in m.confidence) == len(slices.later)


def test_some_recommendation_is_always_reached(case: Case) -> None:
    """Where a model recommends anything it does so for any score, and more for a higher one."""
    of = case.training.recommendations
    if not of:
        pytest.skip("it recommends nothing: its alert is what it says")
    assert recommended(of, 0.0, 0.0) == of[-1]
    assert recommended(of, 1.0, 1.0) == of[0]
    assert [r.probability for r in of] == sorted((r.probability for r in of), reverse=True)
