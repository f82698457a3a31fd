"""What holds of every online learner: the catalogue is discovered."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.learners.catalogue import KINDS
from flows.learners.example import Calibrating, Example, Kind, Learner, Place
from onnx_models.calibrations import SHIFT, SLOPE, outside
from tests.flows.made_examples import examples

PLACE = Place("likely_to_sell", "20260101000000", "main")
MADE = examples(900, seed=1)
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a learner keeps beside its state goes there."""
    monkeypatch.setenv("TELLTALE_HOME", str(tmp_path))


def taught(kind: Kind, of: list[Example]) -> Learner:
    learner = kind.make(PLACE)
    for example in of:
        learner.learn(example)
    return learner


def answers(learner: Learner) -> list[float | None]:
    return [learner.predict(example) for example in MADE[-40:]]


@every_kind
def test_predicts_a_probability_or_nothing(kind: Kind) -> None:
    """Before it has learned anything, and after."""
    for learner in (kind.make(PLACE), taught(kind, MADE[:300])):
        assert all(said is None or 0.0 < said < 1.0 for said in answers(learner))


@every_kind
def test_does_not_look_at_the_label(kind: Kind) -> None:
    """A prediction is the same whatever came of it."""
    learner = taught(kind, MADE[:300])
    other = [msgspec.structs.replace(e, label=1 - e.label, label_at=e.label_at + 1) for e in MADE[300:340]]
    assert [learner.predict(e) for e in MADE[300:340]] == [learner.predict(e) for e in other]


@every_kind
def test_predicting_changes_nothing(kind: Kind) -> None:
    learner = taught(kind, MADE[:200])
    before = learner.state()
    answers(learner)
    assert learner.state() == before


@every_kind
@settings(max_examples=5, deadline=None)
@given(cuts=st.lists(st.integers(1, 599), max_size=3))
def test_goes_on_exactly_from_its_state(kind: Kind, cuts: list[int]) -> None:
    """Stopped and restored anywhere, it is what it would have been."""
    steady, learner = taught(kind, MADE[:600]), kind.make(PLACE)
    for at, example in enumerate(MADE[:600]):
        if at in cuts:
            state, learner = learner.state(), kind.make(PLACE)
            learner.restore(state)
        learner.learn(example)
    assert (answers(learner), learner.report()) == (answers(steady), steady.report())
    assert learner.state() == steady.state()


@every_kind
@pytest.mark.parametrize("state", [b"", b"\x80", b"{}", b"\x93\xa5other\x01\x80", b"\x91" * 5000], ids=repr)
def test_refuses_a_state_that_is_not_its_own(kind: Kind, state: bytes) -> None:
    with pytest.raises(ValueError, match="expected"):
        kind.make(PLACE).restore(state)


@every_kind
def test_refuses_a_state_of_another_format(kind: Kind) -> None:
    told, known, numbers = msgspec.msgpack.decode(taught(kind, MADE[:10]).state())
    with pytest.raises(ValueError, match="format"):
        kind.make(PLACE).restore(msgspec.msgpack.encode((told, known + 1, numbers)))


@every_kind
def test_takes_a_correction(kind: Kind) -> None:
    """Where a label is taken back it says so in its figures, or is what it was without."""
    learner = taught(kind, MADE[:300])
    wrong = MADE[299]
    learner.learn(msgspec.structs.replace(wrong, was=wrong.label, label=1 - wrong.label, revision=1))
    assert all(said is None or 0.0 < said < 1.0 for said in answers(learner))
    assert learner.report().get("corrected", 1) == 1


@every_kind
def test_stays_finite_with_extreme_examples(kind: Kind) -> None:
    """Scores at the ends, huge and missing features."""
    learner = taught(kind, MADE[:100])
    for k, (raw, value) in enumerate([(0.0, 1e12), (1.0, -1e12), (1e-9, float("nan")), (1 - 1e-9, 0.0)] * 10):
        base = MADE[100 + k]
        features = (value, *base.features[1:])
        learner.learn(msgspec.structs.replace(base, raw=raw, score=raw, features=features))
    assert all(said is None or 0.0 < said < 1.0 for said in answers(learner))
    assert np.isfinite(numbers(learner.report())).all()


@every_kind
def test_tells_figures_as_json(kind: Kind) -> None:
    assert msgspec.json.decode(msgspec.json.encode(taught(kind, MADE[:250]).report()))


@every_kind
def test_a_flood_of_one_label_keeps_within_the_bounds(kind: Kind) -> None:
    """All positive, from one key."""
    learner = taught(kind, MADE)
    for example in examples(1500, seed=2, flood=1):
        learner.learn(example)
        if isinstance(learner, Calibrating) and (holds := learner.calibration()):
            assert not outside(holds.a, holds.b), (SLOPE, SHIFT)


def numbers(of: object) -> list[float]:
    """Every number in a report."""
    if isinstance(of, dict):
        return [n for value in of.values() for n in numbers(value)]
    if isinstance(of, list | tuple):
        return [n for value in of for n in numbers(value)]
    return [float(of)] if isinstance(of, int | float) else []
