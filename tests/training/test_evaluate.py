"""Scores as alerts: causal, once an episode, within the budget."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from training.evaluate import Scored, alert_metrics, alerts, threshold
from training.records import DAY


def scored(*people: list[tuple[int, float]], active: int = 10) -> Scored:
    """Each person's (day, score)."""
    rows = [(p, day * DAY, score) for p, of in enumerate(people) for day, score in of]
    person, at, score = (np.array(column) for column in zip(*rows, strict=True))
    return Scored(person, at, score, np.ones(len(at)), active)


def test_one_alert_an_episode() -> None:
    """While the score stays high nothing fires again, however long."""
    of = scored([(day, 0.9) for day in range(90)])
    assert alerts(of, 0.5).nonzero()[0].tolist() == [0]


def test_cool_down() -> None:
    """An episode that ended may be followed by another, but not within 30 days of the first one's start."""
    of = scored([(1, 0.9), (5, 0.1), (20, 0.9), (25, 0.1), (31, 0.9)])
    assert alerts(of, 0.5).nonzero()[0].tolist() == [0, 4]


def test_thin_evidence_waits() -> None:
    """While the signals are not confident nothing fires; the alert comes once they are, if the score still holds."""
    of = scored([(1, 0.9), (2, 0.9), (3, 0.9)])
    assert alerts(msgspec.structs.replace(of, sure=np.array([0.3, 0.6, 0.6])), 0.5).tolist() == [False, True, False]


def test_people_are_independent() -> None:
    """One person's alert says nothing of another's."""
    one, other = [(1, 0.9), (5, 0.9)], [(2, 0.1), (6, 0.7)]
    assert alerts(scored(one, other), 0.5).tolist() == [True, False, False, True]


def test_later_scores_change_nothing_before() -> None:
    """Alerts are causal: whatever comes after a day, the alerts up to it stay."""
    rng = np.random.default_rng(1)
    day = np.sort(rng.integers(0, 300, 200))
    score = rng.random(200)
    whole = alerts(Scored(np.zeros(200, np.int64), day * DAY, score, np.ones(200), 1), 0.8)
    for cut in range(1, 200, 7):
        part = alerts(Scored(np.zeros(cut, np.int64), day[:cut] * DAY, score[:cut], np.ones(cut), 1), 0.8)
        assert part.tolist() == whole[:cut].tolist()


def test_threshold_keeps_the_budget() -> None:
    """The threshold is the least that stays within the budget: a little lower would not."""
    rng = np.random.default_rng(2)
    person, day = np.repeat(np.arange(500), 50), np.tile(np.arange(50), 500)
    of = Scored(person, day * DAY, rng.random(25_000) ** 4, np.ones(25_000), 500)
    cut = threshold(of, budget=0.8)
    assert of.a_year(alerts(of, cut).sum()) <= 0.8
    assert of.a_year(alerts(of, cut - 0.002).sum()) > 0.8


def test_threshold_is_never_below_one_half() -> None:
    """However large the budget, nothing fires below 50 %."""
    assert threshold(scored([(1, 0.3), (2, 0.6)], active=10_000), budget=100.0) == 0.5


def test_metrics_count_episodes() -> None:
    """Precision is of alerts, not of rows; recall is of people who acted."""
    of = scored([(day, 0.9) for day in range(50)], [(3, 0.9), (4, 0.1)], [(3, 0.2), (4, 0.2)])
    label = np.array([True] * 50 + [False] * 2 + [True] * 2)
    found = alert_metrics(of, label, 0.5)
    assert found["alerts"] == 2
    assert found["alert precision"] == 0.5
    assert found["alert recall"] == 0.5
    assert found["alerts a year and active person"] == pytest.approx(2 / 10 * 365 / 49)
