"""Rows to learn from: people at scoring instants, their features then, and what they did within the horizon."""

from __future__ import annotations

import msgspec
import numpy as np

from feature_repo.vocabulary import Vocabulary
from flows.episodes import confidence
from flows.plan import Plan
from flows.windows import Table
from training.backfill import Stream, key, worked
from training.people import Array
from training.records import DAY


class Span(msgspec.Struct, frozen=True):
    """Days since the start of a history, [since, until)."""

    since: int
    until: int


class TooFew(ValueError):
    """Too few people to learn from, or to judge by."""


class Rows(msgspec.Struct, frozen=True):
    """`person`, `at` (ms since 1970), `sure` (confidence of the signals, 0-1): (n,).

    `features`: float32 (n, features), as the models take them.
    """

    person: Array
    at: Array
    features: Array
    sure: Array

    def __len__(self) -> int:
        return len(self.person)


def rows(plan: Plan, of: Stream, span: Span, people: Array, share: float, rng: np.random.Generator) -> Rows:
    """A share of these people's scoring instants within a span, with their features. Sorted by person, then time."""
    person, at = instants(of, span, people)
    kept = rng.random(len(at)) < share
    person, at = person[kept], at[kept]
    found = worked(plan, of, person, at, features_and_confidence)
    return Rows(person, at, found[:, :-1].astype(np.float32), found[:, -1])


def features_and_confidence(table: Table, rows: Array) -> Array:
    """(n, features + 1): the last column is the confidence of each person's signals."""
    return np.column_stack([table.evaluate(rows), confidence(table.signals(rows))])


def instants(of: Stream, span: Span, people: Array) -> tuple[Array, Array]:
    """(person, at) whenever the stream scores these people: at each event, and once a day at a minute of their own."""
    low, high = of.start + span.since * DAY, of.start + span.until * DAY
    chosen = np.zeros(of.people, bool)
    chosen[people] = True
    events = np.flatnonzero(chosen[of.person])
    ticked, tick = _ticks(people, low // DAY, -(-high // DAY))
    person, at = np.concatenate([of.person[events], ticked]), np.concatenate([of.now[events], tick])
    within = (at >= low) & (at < high)
    distinct = np.unique(key(person[within], at[within]))
    return distinct >> 42, distinct & ((1 << 42) - 1)


def _ticks(people: Array, first_day: int, end_day: int) -> tuple[Array, Array]:
    days = np.arange(first_day, end_day)
    person, day = np.repeat(people, len(days)), np.tile(days, len(people))
    return person, day * DAY + person * 2_654_435_761 % 1440 * 60_000


def label(vocabulary: Vocabulary, of: Stream, outcome: str, these: Rows, horizon_days: int) -> Array:
    """(n,) bool: the outcome came after the instant, within the horizon. Raises ValueError as `followed`."""
    return followed(of, these_codes(vocabulary, (outcome,)), these.person, these.at, horizon_days)


def these_codes(vocabulary: Vocabulary, events: tuple[str, ...]) -> Array:
    """Every code of these events, with any tag."""
    members = vocabulary.members(events)
    return np.array([i for i, code in enumerate(vocabulary.codes) if code.event in members], np.int64)


def followed(of: Stream, codes: Array, person: Array, at: Array, horizon_days: int) -> Array:
    """(n,) bool: one of these codes was logged of the person after the instant, within the horizon.

    Raises ValueError on a row whose horizon is not over: nobody knows its label yet (`known` finds them).
    """
    if not known(of, at, horizon_days).all():
        raise ValueError(f"expected instants {horizon_days} days or more before the history's end, got later ones")
    happened = np.flatnonzero(np.isin(of.code, codes))
    happenings = np.sort(key(of.person[happened], of.now[happened]))
    asked = key(person, at)
    following = np.append(happenings, np.iinfo(np.int64).max)[np.searchsorted(happenings, asked, side="right")]
    return following - asked <= horizon_days * DAY


def preceded(of: Stream, codes: Array, person: Array, at: Array, days: int) -> Array:
    """(n,) bool: one of these codes was logged of the person at the instant, or within so many days before."""
    happened = np.flatnonzero(np.isin(of.code, codes))
    happenings = np.sort(key(of.person[happened], of.now[happened]))
    asked = key(person, at)
    last = np.append(-(days + 1) * DAY, happenings)[np.searchsorted(happenings, asked, side="right")]
    return asked - last <= days * DAY


def known(of: Stream, at: Array, horizon_days: int) -> Array:
    """(n,) bool: the horizon of the instant is over."""
    return at + horizon_days * DAY <= of.end
