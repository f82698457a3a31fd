"""Online recalibration: what it learns, when it may hold, and that no lesson does harm."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest

from flows.learners.evidence import DOUBTED, RISK, Doubt, Evidence
from flows.learners.example import Calibration, Example, Place
from flows.learners.recalibration import EITHER, LEAST, STEPS, WORTH, Numbers, Recalibration
from flows.learning_rows import Line, begun
from onnx_models.calibrations import SHIFT, outside
from tests.flows.made_examples import START, examples

PLACE = Place("likely_to_sell", "20260101000000", "main")
DAY = 86_400_000


def taught(of: Iterable[Example], learner: Recalibration | None = None) -> Recalibration:
    learner = learner or Recalibration(PLACE)
    for example in of:
        learner.learn(example)
    return learner


def held(of: Iterable[Example], learner: Recalibration) -> list[Calibration | None]:
    """What holds after each example."""
    return [taught([example], learner).calibration() for example in of]


def test_begins_as_the_model_itself() -> None:
    learner = Recalibration(PLACE)
    assert [learner.predict(e) for e in examples(20, 1)] == pytest.approx([e.raw for e in examples(20, 1)])


@pytest.mark.parametrize(("shift", "slope"), [(1.0, 1.0), (-1.0, 1.0), (0.5, 0.6), (-0.4, 1.5)])
def test_finds_what_the_labels_were_drawn_with(shift: float, slope: float) -> None:
    learner = taught(examples(6_000, 3, shift=shift, slope=slope))
    learned, middle = learner.numbers(), -1.5
    assert learned.a == pytest.approx(slope, abs=0.2)
    assert learned.a * middle + learned.b == pytest.approx(slope * middle + shift, abs=0.2)


def test_nothing_holds_while_the_model_is_right() -> None:
    """Of 40 over 2,000 outcomes, looked at after each, RISK are replaced, or a few more by chance."""
    wrong = sum(any(held(examples(2_000, seed), Recalibration(PLACE))) for seed in range(40))
    assert wrong <= 40 * RISK + 2


def test_holds_after_a_change_and_is_right_then() -> None:
    learner = taught(examples(1_000, 4))
    assert learner.calibration() is None
    taught(examples(500, 5, shift=1.2), learner)
    holds = learner.calibration()
    assert holds is not None
    fresh = examples(5_000, 6, shift=1.2)
    said = [Numbers(holds.b, holds.a - 1).probability(np.log(e.raw / (1 - e.raw))) for e in fresh]
    observed = sum(e.label for e in fresh)
    assert 0.85 < sum(said) / observed < 1.15
    assert sum(e.raw for e in fresh) / observed < 0.6


def test_falls_back_when_the_world_does() -> None:
    learner = taught([*examples(800, 4), *examples(800, 5, shift=1.2)])
    assert learner.calibration() is not None
    assert None in held(examples(300, 6), learner)


def test_says_why_it_holds() -> None:
    learner = taught([*examples(500, 4), *examples(600, 5, shift=1.2)])
    holds = learner.calibration()
    assert holds is not None
    assert "nats over" in holds.why


def test_waits_for_enough_outcomes_of_either_label() -> None:
    learner, hits, seen = Recalibration(PLACE), 0, 0
    for example in examples(400, 5, base=-3.0, shift=1.8):
        learner.learn(example)
        hits, seen = hits + example.label, seen + 1
        if seen < LEAST or hits < EITHER:
            assert learner.calibration() is None
    assert learner.calibration() is not None


def test_moves_in_steps() -> None:
    """From one calibration to the next the log odds move by no more than allowed, in the middle of the scores."""
    learner = taught(examples(800, 4))
    told = [c for c in held(examples(900, 5, shift=2.0, slope=1.4), learner) if c]
    middle = learner.kept.middle
    levels = [0.0, *((c.a - 1) * middle + c.b for c in told)]
    assert np.abs(np.diff(levels)).max() <= STEPS["level"] + WORTH
    assert np.abs(np.diff([1.0, *(c.a for c in told)])).max() <= STEPS["slope"] + WORTH


def test_stays_within_the_bounds_however_far_the_world_moves() -> None:
    told = held(examples(3_000, 5, shift=5.0, slope=3.0), Recalibration(PLACE))
    assert any(told)
    assert not any(outside(c.a, c.b) for c in told if c)


@pytest.mark.parametrize("middle", [-6.0, -3.0, -0.1, 0.0, 2.0])
@pytest.mark.parametrize(("level", "slope"), [(3.0, 0.5), (-3.0, -0.5), (1.5, 1.0), (0.0, 2.0)])
def test_the_slope_gives_way_to_the_level(level: float, slope: float, middle: float) -> None:
    """So that as many are foretold as come."""
    within = Numbers(level, slope, middle).within()
    assert not outside(within.a, within.b)
    assert within.a * middle + within.b == pytest.approx(middle + np.clip(level, -SHIFT, SHIFT))


@pytest.mark.parametrize("label", [0, 1])
def test_a_flood_of_one_label_changes_nothing_but_an_alarm(label: int) -> None:
    """All outcomes the same, as no chance explains: what holds stays, and it is told."""
    base = -2.0 if label else 1.0
    learner = taught(examples(1_000, 4, base=base))
    assert not any(held(examples(1_500, 5, base=base, flood=label), learner))
    report = learner.report()
    assert report["one_sided_now"]
    assert "one_sided" in [by for alarm in report["alarms"] for by in alarm["by"]]  # type: ignore[attr-defined]


def test_recovers_from_a_flood() -> None:
    learner = taught([*examples(1_000, 4), *examples(500, 5, flood=1), *examples(1_500, 6)])
    holds = learner.calibration()
    assert holds is None or abs((holds.a - 1) * -2 + holds.b) < 0.5
    assert not learner.report()["one_sided_now"]


def test_conversions_alone_teach_nothing_until_the_first_horizon_is_over() -> None:
    """They come at once, the others only with the end of the horizon: of the first people only they are known."""
    early = [e for e in examples(2_000, 4) if e.label][:40]
    learner = taught(early)
    assert learner.numbers() == Numbers()
    assert learner.report()["too_early"] == 40


def alert(example: Example, label: int, at: int) -> Example:
    """Of a horizon of 90 days."""
    told = {"source": "alert", "until": example.at + 90 * DAY, "label": label, "label_at": at}
    return msgspec.structs.replace(example, **told)


def test_a_0_that_was_told_does_not_let_conversions_alone_teach() -> None:
    """Somebody dismisses an alert on the first day; of the others only those are known that came about."""
    first, *others = examples(251, 4)
    learner = taught([alert(first, 0, first.at + DAY), *(alert(e, 1, e.at + 2 * DAY) for e in others)])
    assert learner.numbers() == Numbers()
    assert learner.report()["too_early"] == 251
    taught([alert(e, 0, e.at + 90 * DAY) for e in others], learner)
    assert learner.report()["too_early"] == 251


def test_a_line_of_the_journal_says_when_its_horizon_ends() -> None:
    row = begun(examples(1, 4)[0], START + 90 * DAY)
    assert Line(row, 0, 0, None, row.until, "horizon").example().until == START + 90 * DAY


def test_of_what_has_no_horizon_any_0_lets_them_teach() -> None:
    told = [msgspec.structs.replace(e, source="prediction", label=int(k > 0)) for k, e in enumerate(examples(41, 4))]
    learner = taught(told)
    assert learner.report()["too_early"] == 0
    assert learner.numbers().level > 0


def test_is_judged_by_what_it_said_when_the_score_was_made() -> None:
    learner = Recalibration(PLACE)
    taught([msgspec.structs.replace(e, predicted=0.5) for e in examples(300, 4)], learner)
    assert learner.report()["total"]["recalibrated"]["log_loss"] == pytest.approx(np.log(2))  # type: ignore[index]


def test_may_hold_though_all_scores_were_made_before_any_lesson() -> None:
    """As after each change, for a horizon: what was said then was the model's own."""
    moved = [*examples(500, 4), *examples(600, 5, shift=1.2)]
    learner = taught(msgspec.structs.replace(e, predicted=e.raw) for e in moved)
    total: Any = learner.report()["total"]
    assert total["recalibrated"] == total["champion"]
    assert learner.calibration() is not None


def test_falls_back_when_the_scores_told_were_worse() -> None:
    """Labels that come too late for what they teach: each lesson is right when it is learned, and was wrong in time."""
    learner = taught([*examples(500, 4), *examples(600, 5, shift=1.2)])
    assert learner.calibration() is not None
    told = [
        msgspec.structs.replace(e, score=0.9, calibration=1) for e in examples(100, 6, shift=1.2, since=START + DAY)
    ]
    assert None in held(told, learner)


def test_scores_told_before_it_held_are_no_fault_of_it() -> None:
    learner = taught([*examples(500, 4), *examples(600, 5, shift=1.2)])
    told = [
        msgspec.structs.replace(e, score=0.9, calibration=1) for e in examples(100, 6, shift=1.2, since=START - DAY)
    ]
    assert None not in held(told, learner)


def test_a_correction_takes_the_lesson_back() -> None:
    """What a wrong label taught is undone, but for how it moved later lessons."""
    right = examples(400, 4)
    wrong = msgspec.structs.replace(right[-1], label=1 - right[-1].label)
    corrected = taught([*right[:-1], wrong])
    off = corrected.numbers().level
    corrected.learn(msgspec.structs.replace(right[-1], was=wrong.label, revision=1))
    want = taught(right).numbers().level
    assert abs(corrected.numbers().level - want) < 0.2 * abs(off - want)


def corrected(of: Example, *labels: int) -> list[Example]:
    """The first told on the second day, the others after the horizon."""
    told = [alert(of, labels[0], of.at + DAY)]
    for n, (was, label) in enumerate(pairwise(labels), 1):
        told.append(msgspec.structs.replace(alert(of, label, of.at + (90 + n) * DAY), was=was, revision=n))
    return told


@pytest.mark.parametrize("labels", [(1, 0), (1, 0, 1)])
def test_a_lesson_that_was_not_learned_is_not_taken_back(labels: tuple[int, ...]) -> None:
    """It came before any horizon was over: its correction is the first that is learned of it."""
    of = examples(1, 4)[0]
    first, *others = corrected(of, *labels)
    learner = taught(others, again(taught([first])))
    only = [msgspec.structs.replace(others[0], was=None, revision=0), *others[1:]]
    assert learner.numbers() == taught(only).numbers()
    assert learner.numbers() != Numbers()
    assert learner.kept.learned == 1


def again(learner: Recalibration) -> Recalibration:
    """From its state."""
    restored = Recalibration(PLACE)
    restored.restore(learner.state())
    return restored


def test_learns_apart_what_being_told_does() -> None:
    """Alerts that were delivered come about more often: the context takes that, not the level of the others."""
    sample, alerts = examples(3_000, 4), examples(3_000, 5, shift=0.8, source="alert")
    learner = taught(e for pair in zip(sample, alerts, strict=True) for e in pair)
    assert learner.report()["learned"]["weights"]["delivered"] == pytest.approx(0.8, abs=0.3)  # type: ignore[index]


def test_forgets_faster_after_a_drift() -> None:
    """As much is learned of the new world within 300 outcomes as otherwise within many more."""
    learner = taught([*examples(2_000, 4), *examples(300, 5, shift=1.5)])
    assert learner.report()["alarms"]
    assert learner.numbers().a * -2 + learner.numbers().b > -1.2


def test_evidence_restarts_at_a_higher_price() -> None:
    evidence = Evidence()
    first = evidence.bar
    for _ in range(40):
        evidence.add(-0.1)
    assert evidence.test == 2
    assert evidence.bar == pytest.approx(first + np.log(3))


def test_evidence_errs_no_more_often_than_allowed() -> None:
    """A forecaster that is no better is called better in at most RISK of many streams."""
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(300):
        evidence, p, q = Evidence(), 0.1, 0.16
        label = rng.random(1_500) < p
        for gain in np.where(label, np.log(q / p), np.log((1 - q) / (1 - p))):
            evidence.add(float(gain))
            if evidence.enough:
                wrong += 1
                break
    assert wrong <= 300 * RISK + 3 * np.sqrt(300 * RISK)


def test_doubt_forgets_a_good_time() -> None:
    doubt = Doubt()
    for _ in range(500):
        doubt.add(-1.0)
    for _ in range(int(DOUBTED) + 1):
        doubt.add(1.0)
    assert doubt.enough
