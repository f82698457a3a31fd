"""How good scores are as the alerts that they would have opened, one after another in time."""

from __future__ import annotations

import msgspec
import numpy as np

from flows.alert import MIN_CONFIDENCE
from flows.episodes import closes, fires
from training.people import YEAR, Array
from training.records import DAY


class Scored(msgspec.Struct, frozen=True):
    """Scores (n,) of people at instants (ms), sorted by person, then time.

    `sure`: confidence of the signals then; `active`: how many people do anything at all; `days`: for how many days
    these rows speak at least, where they are few instants.
    """

    person: Array
    at: Array
    score: Array
    sure: Array
    active: int
    days: int = 0

    def a_year(self, number: float) -> float:
        """A number within the time that these span, as a rate a year and active person."""
        span = max(float(np.ptp(self.at)), self.days * DAY, 1.0)
        return float(number) / max(self.active, 1) * YEAR * DAY / span


def alerts(of: Scored, threshold: float, cooldown_days: int = 30) -> Array:
    """Which rows would have opened an alert, one after another as in the stream, and by its rules: (n,) bool."""
    people = int(of.person.max(initial=0)) + 1
    opened, open_ = np.zeros(people, np.int64), np.zeros(people, np.int64)
    out = np.zeros(len(of.person), bool)
    for rows in _rounds(of, threshold):
        who, score = of.person[rows], of.score[rows]
        fire = fires(score, threshold, opened[who], open_[who], of.at[rows], cooldown_days)
        fire &= of.sure[rows] >= MIN_CONFIDENCE
        open_[who[closes(score, threshold, open_[who])]] = 0
        opened[who[fire]] = of.at[rows][fire]
        open_[who[fire]] = 1
        out[rows] = fire
    return out


def _rounds(of: Scored, threshold: float) -> list[Array]:
    """Each person's first row, each one's second...: of people who reach the threshold at all."""
    reached = np.zeros(int(of.person.max(initial=0)) + 1, bool)
    reached[of.person[of.score >= threshold]] = True
    rows = np.flatnonzero(reached[of.person])
    nth = rows - np.searchsorted(of.person, of.person[rows])
    order = np.argsort(nth, kind="stable")
    return np.split(rows[order], np.flatnonzero(np.diff(nth[order])) + 1)


def threshold(of: Scored, budget: float, least: float = MIN_CONFIDENCE) -> float:
    """The least threshold from `least` on that opens at most `budget` alerts a year and active person."""
    low, high = least, 1.0
    if of.a_year(alerts(of, low).sum()) <= budget:
        return low
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (low, middle) if of.a_year(alerts(of, middle).sum()) <= budget else (middle, high)
    return round(high, 4)


def alert_metrics(of: Scored, label: Array, cut: float) -> dict[str, float]:
    """Episodes at a threshold: how many, how many were followed by the outcome, how many people's were announced."""
    opened = alerts(of, cut)
    acted = np.unique(of.person[label])
    found = {"alerts": float(opened.sum()), "alerts a year and active person": of.a_year(opened.sum())}
    if opened.any():
        found["alert precision"] = float(label[opened].mean())
    if len(acted):
        found["alert recall"] = float(np.isin(acted, of.person[opened & label]).mean())
    return found
