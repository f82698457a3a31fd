"""The challengers: what they are judged by, what they say of the world, and that only our files are unpickled."""

from __future__ import annotations

import os
import pickle
import stat
from math import log
from pathlib import Path

import msgspec
import numpy as np
import pytest

from flows.learners import challenger_forest
from flows.learners.challenger_forest import Forest
from flows.learners.challenger_linear import EVERY, POSITIVE, Linear
from flows.learners.contest import LATELY, Contest
from flows.learners.example import Example, Place
from flows.learners.input_list import BACK, InputList
from flows.learners.odds import sigmoid
from flows.learners.sealed import KEY, Sealed
from tests.flows.made_examples import START, examples

PLACE = Place("likely_to_sell")


def forest(folder: Path, of: list[Example]) -> Forest:
    made = Forest(PLACE, Sealed(folder))
    for example in of:
        made.learn(example)
    return made


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file each 40 rows."""
    monkeypatch.setattr(challenger_forest, "EVERY", 40)


def test_the_linear_one_foretells_as_many_as_come() -> None:
    """Though each outcome weighed five times as much."""
    learner = Linear(PLACE)
    for example in examples(6_000, 1):
        learner.learn(example)
    fresh = examples(4_000, 2)
    said = [learner.predict(e) or 0.0 for e in fresh]
    assert sum(said) == pytest.approx(sum(e.label for e in fresh), rel=0.12)
    assert POSITIVE > 1


def test_the_forest_foretells_about_as_many_as_come(tmp_path: Path) -> None:
    """Though it learned more of those with the outcome than of the others."""
    learner = forest(tmp_path, examples(12_000, 1))
    fresh = examples(6_000, 2)
    asked = [(p, e.label) for e in fresh if (p := learner.predict(e)) is not None]
    assert len(asked) == pytest.approx(len(fresh) / 10, rel=0.2)
    assert sum(p for p, _ in asked) == pytest.approx(sum(label for _, label in asked), rel=0.35)


def test_is_judged_by_what_it_said_when_the_score_was_made() -> None:
    learner = Linear(PLACE)
    for example in examples(200, 1):
        learner.learn(msgspec.structs.replace(example, predicted=0.25))
    assert set(learner.contest.rows()[:, 2]) == {np.float32(0.25)}


def test_the_latest_outcomes_are_bounded() -> None:
    contest = Contest()
    for example in examples(3 * LATELY, 1):
        contest.tell(example, lambda _: 0.1)
    rows = contest.rows()
    assert LATELY <= len(rows) < 2 * LATELY
    assert rows[-1, 1] == np.float32(examples(3 * LATELY, 1)[-1].raw)


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("at", [100, 700, 1_333])
def test_the_forest_goes_on_from_its_file(tmp_path: Path, at: int) -> None:
    """A file, and the rows since: what it says after it is what it would have said."""
    made = examples(2_000, 1)
    steady, broken = forest(tmp_path / "steady", made), forest(tmp_path / "broken", made[:at])
    again = Forest(PLACE, Sealed(tmp_path / "broken"))
    again.restore(broken.state())
    for example in made[at:]:
        again.learn(example)
    assert [again.predict(e) for e in made] == [steady.predict(e) for e in made]
    assert again.state() == steady.state()


@pytest.mark.usefixtures("often")
def test_the_file_of_the_last_two_states_stays(tmp_path: Path) -> None:
    """Either may be the one that stands; the others go."""
    learner = forest(tmp_path, examples(700, 1))
    first = learner.state()
    for example in examples(3_000, 2):
        learner.learn(example)
    Forest(PLACE, Sealed(tmp_path)).restore(first)
    assert len(list(tmp_path.glob("forest-*"))) <= 3


@pytest.mark.usefixtures("often")
def test_a_forest_without_its_file_learns_all_again(tmp_path: Path) -> None:
    state = forest(tmp_path, examples(1_000, 1)).state()
    with pytest.raises(ValueError, match="expected"):
        Forest(PLACE, Sealed(tmp_path / "elsewhere")).restore(state)


def test_inputs_that_change_begin_another_forest(tmp_path: Path) -> None:
    learner = forest(tmp_path, examples(2_000, 1))
    renamed = newer(examples(10, 2))
    for example in renamed:
        learner.learn(example)
    assert all(learner.predict(e) is None for e in renamed)


def newer(of: list[Example]) -> list[Example]:
    """Of the next version, which has other inputs."""
    return [msgspec.structs.replace(e, version="20260201000000", names=("a", "b", "c", "d")) for e in of]


def alternating() -> tuple[list[Example], list[Example], list[Example]]:
    """Of the first version; of the next; these with late labels of the first in between."""
    late, new = examples(600, 2), newer(examples(600, 3, since=START + 60 * 86_400_000))
    return examples(600, 1), new, [e for pair in zip(new, late, strict=True) for e in pair]


def test_late_labels_of_other_inputs_do_not_throw_the_forest_back(tmp_path: Path) -> None:
    """They come for a horizon yet; it learns those of the next version as if there were none."""
    first, new, both = alternating()
    learner, want = forest(tmp_path / "both", [*first, *both]), forest(tmp_path / "new", [*first, *new])
    assert [learner.predict(e) for e in new] == [want.predict(e) for e in new]
    assert any(learner.predict(e) for e in new)
    assert learner.report()["of_other_inputs"] == 600


def test_late_labels_of_other_inputs_leave_the_rows_of_an_export() -> None:
    first, new, both = alternating()
    learner = Linear(PLACE)
    for example in (*first, *both):
        learner.learn(example)
    names, rows = learner.rows()
    assert names == new[0].names
    assert len(rows) == 600 // EVERY
    assert rows[-1] == pytest.approx(new[-1].features, rel=1e-6)


def test_an_input_that_a_version_no_longer_has_adds_nothing_to_the_line() -> None:
    """Its weight is still there, of the version before."""
    learner, old = Linear(PLACE), examples(300, 1)
    new = [msgspec.structs.replace(e, names=e.names[1:], features=e.features[1:]) for e in examples(50, 2)]
    for example in (*(msgspec.structs.replace(e, features=(e.features[0] + 9, *e.features[1:])) for e in old), *new):
        learner.learn(example)
    weights, intercept = learner.line().folded(new[0].names)
    said = [sigmoid(intercept + weights @ np.array(e.features) - log(POSITIVE)) for e in new]
    assert said == pytest.approx([learner.predict(e) for e in new])


def test_a_version_that_is_brought_back_is_learned_again() -> None:
    """Once it was scored again for a while; what the newer one still has coming changes nothing then."""
    first, new, _ = alternating()
    again, held = examples(BACK + 1, 4, since=START + 90 * 86_400_000), InputList()
    for example in (*first, *new):
        held.holds(example)
    assert [held.holds(e) for e in again] == [False] * (BACK - 1) + [True] * 2
    assert not any(held.holds(e) for e in new)


class Bomb:
    """Leaves a trace when it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.place),)


@pytest.mark.parametrize("tag", [b"", b"\0" * 32])
def test_a_pickle_from_outside_is_not_opened(tmp_path: Path, tag: bytes) -> None:
    sealed, trace = Sealed(tmp_path), tmp_path / "trace"
    sealed.write("thing", 1)
    (tmp_path / "thing").write_bytes(tag + pickle.dumps(Bomb(trace)))
    with pytest.raises(ValueError, match="as it was written here"):
        sealed.read("thing")
    assert not trace.exists()


def test_a_file_under_another_name_is_not_opened(tmp_path: Path) -> None:
    """So that nobody can bring back an earlier one."""
    sealed = Sealed(tmp_path)
    sealed.write("thing.1", 1)
    (tmp_path / "thing.1").rename(tmp_path / "thing.2")
    with pytest.raises(ValueError, match="as it was written here"):
        sealed.read("thing.2")


def test_the_key_is_for_us_alone(tmp_path: Path) -> None:
    Sealed(tmp_path).write("thing", 1)
    assert stat.S_IMODE((tmp_path / KEY).stat().st_mode) == 0o600
    assert Sealed(tmp_path).read("thing") == 1
