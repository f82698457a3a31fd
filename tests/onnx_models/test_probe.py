"""A model is tried in a limited process before it is loaded: what is none of ours is refused, and kills nobody."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from feature_repo.services import SERVICES
from onnx_models import card, proof, registry
from onnx_models.library import Library
from onnx_models.proof import Hostile, Verdict, probed
from onnx_models.registry import TOLERANCE
from onnx_models.watch import Watch
from tests.onnx_models import mutants
from tests.onnx_models.mutants import NAME, VERSION

SERVICE = next(service for service in SERVICES if service.name == NAME)
FLIPPED, CUT = 24, 8
HOSTILE = (*mutants.GRAPHS, "nested", "hard_link", "symbolic_link", "weights_beside")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mutants")


@pytest.fixture(scope="module")
def verdicts(place: Path) -> dict[str, Verdict]:
    """Of the original, all hostile ones, some cut and some flipped, by name."""
    made = [
        mutants.copy(place, "fine"),
        *mutants.hostile(place),
        *mutants.cut(place, CUT, 1),
        *mutants.flipped(place, FLIPPED, 1),
    ]
    return {path.relative_to(place).parts[0]: verdict for path, verdict in zip(made, probed(made), strict=True)}


def test_a_sound_model_passes(verdicts: dict[str, Verdict], place: Path) -> None:
    """What was exported is found fit, under the seal of the files that were tried."""
    files = registry.read(place / "fine" / NAME / VERSION)
    assert (verdicts["fine"].wrong, verdicts["fine"].seal) == ("", files.seal)


def test_every_shipped_model_passes() -> None:
    """Those that ship would be let in, too: each booster answers as its graph at every leaf."""
    library = Library(registry.HERE)
    shipped = [library.place(name, version) for name in library.names() for version in library.versions(name)[-1:]]
    assert [verdict.wrong for verdict in probed(shipped)] == [""] * len(shipped)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_models_are_refused(verdicts: dict[str, Verdict], name: str) -> None:
    """External data, links, loops, huge tensors, trees that lead round: each is refused in words."""
    assert "expected" in verdicts[name].wrong


@pytest.mark.parametrize("number", range(CUT))
def test_cut_models_are_refused(verdicts: dict[str, Verdict], number: int) -> None:
    """A graph or booster that lacks a piece, with the checksum of what is left."""
    assert verdicts[f"cut_{number}"].wrong


@pytest.mark.parametrize("number", range(FLIPPED))
def test_flipped_models_are_refused(verdicts: dict[str, Verdict], place: Path, number: int) -> None:
    """Some bytes are others: refused, or it answers every row as the original does."""
    verdict = verdicts[f"flipped_{number}"]
    assert verdict.wrong or harmless(Path(verdict.place))


def harmless(place: Path) -> bool:
    """Equal answers, for rows around the golden ones."""
    mutant, ours = (registry.verified(registry.read(p), SERVICE.features) for p in (place, mutants.original()))
    rng = np.random.default_rng(1)
    golden = np.array(ours.metadata.golden.inputs, np.float32)
    rows = golden[rng.integers(len(golden), size=4_000)] * rng.uniform(0, 2, (4_000, golden.shape[1]))
    return bool((np.abs(np.array(mutant.scores(rows)) - np.array(ours.scores(rows))) <= TOLERANCE).all())


def test_most_flips_are_refused(verdicts: dict[str, Verdict]) -> None:
    """The probe finds nearly all of them, so that the test above does not pass by harmless ones alone."""
    assert sum(bool(verdicts[f"flipped_{i}"].wrong) for i in range(FLIPPED)) >= 0.9 * FLIPPED


@pytest.fixture
def library(tmp_path: Path) -> Library:
    """The original ships; the home is empty."""
    ships = tmp_path / "shipped" / NAME
    shutil.copytree(mutants.original(), ships / mutants.original().name)
    return Library(tmp_path / "home", tmp_path / "shipped")


@pytest.mark.parametrize("name", ["squared", "hard_link", "round_and_round"])
def test_the_old_version_goes_on(verdicts: dict[str, Verdict], place: Path, library: Library, name: str) -> None:
    """A hostile version among the others neither scores nor can be promoted; who watches keeps what it has."""
    watch = Watch(library, [SERVICE])
    held = watch.models
    folder = library.places[0] / NAME
    folder.mkdir(exist_ok=True)
    (place / name / NAME / VERSION).rename(folder / VERSION)  # links and all
    try:
        watch.look()
        assert watch.models is held
        assert "expected" in watch.refused[NAME]
        with pytest.raises(Hostile, match="expected"):
            library.promote(NAME, VERSION, "ann", "hope")
        assert library.book(NAME).generation == 0
        assert library.deployed(NAME).version == mutants.original().name
    finally:
        (folder / VERSION).rename(place / name / NAME / VERSION)


def test_what_is_proved_is_tried_once(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every process of a home relies on the one try, as long as the files are the same."""
    library.load(NAME, mutants.original().name)

    def never(places: object) -> None:
        raise AssertionError(f"{places} was tried again")

    monkeypatch.setattr(proof, "probed", never)
    other = Library(*library.places)
    other.load(NAME, mutants.original().name)
    file = other.place(NAME, mutants.original().name) / card.METADATA
    file.write_bytes(file.read_bytes().replace(b'"budget": ', b'"budget":  '))
    with pytest.raises(AssertionError, match="tried again"):
        other.load(NAME, mutants.original().name)


def test_a_try_that_cannot_begin_is_a_refusal(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """No process, no proof: the model is not loaded, and why is said."""
    monkeypatch.setattr(proof, "_ENVIRONMENT", {"PYTHONHOME": "/nowhere"})
    with pytest.raises(Hostile, match="it could not be tried"):
        library.load(NAME, mutants.original().name)


def test_whoever_scores_never_reads_a_graph_himself() -> None:
    """The parser of graphs and the booster's library are in the process that may die of them alone."""
    code = "import onnx_models.watch, sys; sys.exit(bool({'onnx', 'xgboost'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
