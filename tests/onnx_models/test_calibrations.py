"""Two numbers that outcomes taught: kept, bounded, taken up, applied the same however rows are cut."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from feature_repo.services import SERVICES
from onnx_models import calibrations
from onnx_models.calibrations import FILE, applied, by_organisation, change, outside, read, undone
from onnx_models.library import Library
from onnx_models.registry import Damaged, NoVersion
from onnx_models.watch import Watch
from tests.flows.made_models import VERSION, logistic

SELL = SERVICES[0]


@pytest.fixture
def library(tmp_path: Path) -> Library:
    """One version of one model."""
    logistic(tmp_path, SELL, "session_count_30d", 1.0, 2.0, 0.5)
    return Library(tmp_path)


def test_each_change_has_a_number_and_the_last_holds(library: Library) -> None:
    """An organisation's own; what is withdrawn leaves the version's own calibration."""
    for organisation, new in (("a", (1.0, 0.5)), ("b", (2.0, -2.0)), ("a", (0.5, 1.0)), ("b", None)):
        library.calibrate(SELL.name, VERSION, organisation, new, "learning", "it is better")
    found = library.calibrations(SELL.name)
    assert [c.number for c in found.changes] == [1, 2, 3, 4]
    assert {o: (c.number, c.a, c.b) for o, c in found.holding(VERSION).items()} == {"a": (3, 0.5, 1.0)}
    assert found.holding("20270101000000") == {}


def test_what_holds_already_is_no_change(library: Library) -> None:
    """So whoever was killed between learning and telling tells again."""
    assert library.calibrate(SELL.name, VERSION, "a", None, "me", "") is None
    assert library.calibrate(SELL.name, VERSION, "a", (1.5, 0.0), "me", "") is not None
    assert library.calibrate(SELL.name, VERSION, "a", (1.5, 0.0), "me", "") is None


@pytest.mark.parametrize("new", [(0.4, 0.0), (2.1, 0.0), (1.0, 2.1), (1.0, -2.1), (float("nan"), 0.0)])
def test_nothing_goes_beyond_the_bounds(library: Library, new: tuple[float, float]) -> None:
    """Neither by the door nor in a file that somebody wrote."""
    with pytest.raises(ValueError, match=r"a in 0\.5 to 2 and b in -2 to 2"):
        library.calibrate(SELL.name, VERSION, "a", new, "me", "")
    assert outside(*new)


def test_of_a_version_that_is_not_there_nothing_can_hold(library: Library) -> None:
    """It is named."""
    with pytest.raises(NoVersion, match="20270101000000"):
        library.calibrate(SELL.name, "20270101000000", "a", (1.0, 1.0), "me", "")


def test_a_damaged_file_is_refused(library: Library, tmp_path: Path) -> None:
    """Also one whose numbers are out of bounds."""
    library.calibrate(SELL.name, VERSION, "a", (1.5, 0.0), "me", "")
    file = tmp_path / SELL.name / FILE
    file.write_bytes(file.read_bytes().replace(b"1.5", b"7.5"))
    with pytest.raises(Damaged, match=r"calibration 1: expected a in 0\.5 to 2"):
        library.calibrations(SELL.name)


def test_the_watch_takes_up_what_holds_with_its_version(library: Library, tmp_path: Path) -> None:
    """The model is another object then, whose session is the same; a damaged file leaves the version's own."""
    watch = Watch(library, [SELL])
    before = watch.models[SELL.name]
    library.calibrate(SELL.name, VERSION, "a", (1.5, 0.25), "me", "")
    watch.look()
    after = watch.models[SELL.name]
    assert (before.calibrations, after.calibrations["a"].b) == ({}, 0.25)
    assert before._session is after._session
    watch.look()
    assert watch.models[SELL.name] is after
    (tmp_path / SELL.name / FILE).write_bytes(b"{")
    watch.look()
    assert watch.models[SELL.name].calibrations == {}
    assert "expected calibrations" in watch.refused[SELL.name]


def test_a_new_version_starts_without(library: Library, tmp_path: Path) -> None:
    """What was learned of another holds no more."""
    library.calibrate(SELL.name, VERSION, "a", (1.5, 0.25), "me", "")
    logistic(tmp_path, SELL, "session_count_30d", 1.0, 2.0, 0.5, version="20270101000000")
    watch = Watch(library, [SELL])
    assert (watch.models[SELL.name].version, watch.models[SELL.name].calibrations) == ("20270101000000", {})


def test_applied_is_the_formula_and_undone_goes_back() -> None:
    """Within float32, from one end to the other."""
    p = np.linspace(1e-6, 1 - 1e-6, 10_001)
    a, b = 1.7, -0.8
    expected = 1 / (1 + np.exp(-(a * np.log(p / (1 - p)) + b)))
    found = applied(p.astype(np.float32), a, b)
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-7)
    back = undone(found, a, b)
    middle = (p > 0.01) & (p < 0.99)
    np.testing.assert_allclose(back[middle], p[middle], rtol=1e-4)


def test_the_same_bits_however_rows_are_cut() -> None:
    """A row by itself, in a crowd, at any place."""
    rng = np.random.default_rng(1)
    p, a, b = rng.random(257).astype(np.float32), rng.uniform(0.5, 2, 257), rng.uniform(-2, 2, 257)
    whole = applied(p, a, b)
    for cut in (1, 3, 64, 100):
        pieces = [applied(p[low : low + cut], a[low : low + cut], b[low : low + cut]) for low in range(0, 257, cut)]
        assert np.concatenate(pieces).tobytes() == whole.tobytes()


def test_what_is_not_known_stays_so() -> None:
    """NaN is no probability; 0 and 1 have odds of a float32."""
    found = applied(np.array([np.nan, 0.0, 1.0], np.float32), 1.0, 0.0)
    assert np.isnan(found[0])
    assert found[1] < 1e-6
    assert found[2] > 1 - 1e-6


def test_rows_take_what_holds_for_their_organisation(library: Library) -> None:
    """With its number; all others keep theirs to the bit."""
    library.calibrate(SELL.name, VERSION, "a", (1.0, 1.0), "me", "")
    p = np.array([0.3, 0.3, np.nan], np.float32)
    found, numbers = by_organisation(library.calibrations(SELL.name).holding(VERSION), ["b", "a", "a"], p)
    assert numbers.tolist() == [0, 1, 1]
    assert (found[0], found[1]) == (p[0], applied(p[1:2], 1.0, 1.0)[0])
    assert np.isnan(found[2])


def test_the_history_is_bounded_and_keeps_what_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Old changes go; one that holds is none."""
    monkeypatch.setattr(calibrations, "KEPT", 5)
    change(tmp_path, VERSION, "kept", (1.0, 0.5), "me", "")
    for i in range(10):
        change(tmp_path, VERSION, "moves", (1.0, 0.1 * (i + 1)), "me", "")
    found = read(tmp_path)
    assert [c.number for c in found.changes] == [1, 7, 8, 9, 10, 11]
    assert msgspec.json.decode((tmp_path / FILE).read_bytes())["changes"][0]["organisation"] == "kept"
