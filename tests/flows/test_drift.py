"""Whether errors changed, and how good forecasters were over time."""

from __future__ import annotations

from math import log

import msgspec
import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from flows.learners.drift import Detectors, Drift, Seen
from flows.learners.example import Example, Place
from flows.learners.progress import MOST, UNIT, Progress
from tests.flows.made_examples import START, examples

PLACE = Place("likely_to_sell")
DAY = 86_400_000


def drift(of: list[Example]) -> Drift:
    made = Drift(PLACE)
    for example in of:
        made.learn(example)
    return made


def test_a_change_is_seen_with_its_time_and_size() -> None:
    """First seen after it came, before 500 outcomes had; the size is about that of the errors."""
    since = START + 60 * DAY
    found = drift([*examples(2_000, 1), *examples(1_000, 2, shift=1.3, since=since)]).detectors.alarms
    assert since < found[0].first < since + 500 * 60_000
    moved = np.mean([e.label - e.raw for e in examples(20_000, 3, shift=1.3)])
    assert found[0].before == pytest.approx(0, abs=0.05)
    assert found[0].after == pytest.approx(float(moved), abs=0.12)


def test_both_detectors_see_a_large_change() -> None:
    found = drift([*examples(2_000, 1), *examples(1_000, 2, shift=2.5)]).detectors.alarms
    assert found[0].by == ["adwin", "page_hinkley"]


def test_alarms_are_rare_without_a_change() -> None:
    assert sum(len(drift(examples(2_000, seed)).detectors.alarms) for seed in range(20)) <= 5


def test_a_wrong_model_that_stays_as_wrong_does_not_drift() -> None:
    """Though its errors are larger than it thinks."""
    assert sum(len(drift(examples(4_000, seed, shift=1.5)).detectors.alarms) for seed in range(10)) <= 12


def test_one_change_is_one_alarm() -> None:
    found = drift([*examples(2_000, 1), *examples(450, 2, shift=2.5)]).detectors.alarms
    assert len(found) == 1
    assert found[0].times > 1


def test_a_window_that_was_changed_is_refused() -> None:
    """River itself would die of it."""
    seen = drift(examples(300, 1)).detectors.seen()
    hostile = Seen(**msgspec.structs.asdict(seen) | {"adwin": seen.adwin[:-8]})
    with pytest.raises(ValueError, match="as they were kept"):
        Detectors.of(hostile)


def test_figures_are_those_of_scikit_learn() -> None:
    """ROC-AUC is of pairs within a hundred outcomes, so it is compared on a hundred."""
    progress, made = Progress(("ours",)), examples(UNIT, 4)
    for example in made:
        progress.tell(example.label_at, example.label, example.raw)
    label, said = [e.label for e in made], [e.raw for e in made]
    total = progress.total()["ours"]
    assert total == pytest.approx(
        {
            "log_loss": log_loss(label, said),
            "predicted_over_observed": sum(said) / sum(label),
            "roc_auc": roc_auc_score(label, said),
        }
    )


def test_ties_count_half() -> None:
    progress = Progress(("ours",))
    for label in (0, 1, 0, 1):
        progress.tell(1, label, 0.5)
    assert progress.total()["ours"]["roc_auc"] == 0.5  # type: ignore[index]


def test_nothing_is_lost_when_blocks_become_one() -> None:
    """As many as are kept, whatever changed meanwhile."""
    progress, n = Progress(("ours",)), 5 * MOST * UNIT // 2
    for k in range(n):
        progress.tell(k, k % 7 == 0, 0.2)
        if k % 5_000 == 4_321:
            progress.cut()
    total = progress.total()
    assert len(progress.blocks) <= MOST
    assert (total["outcomes"], total["positive"]) == (n, -(-n // 7))
    mine = total["ours"]
    assert mine["log_loss"] == pytest.approx(-(log(0.2) / 7 + log(0.8) * 6 / 7), rel=1e-4)  # type: ignore[index]


def test_what_changed_parts_the_figures() -> None:
    progress = Progress(("ours",))
    for k in range(330):
        progress.tell(k, 0, 0.1)
        if k == 149:
            progress.cut()
    assert [part["outcomes"] for part in progress.between()] == [150, 180]
