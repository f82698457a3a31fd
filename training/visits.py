"""Visits and what is done in them: habits, bursts, weekdays, hours, and the trace of intent."""

from __future__ import annotations

import numpy as np

from training.people import YEAR, Array, People
from training.plans import Shown
from training.records import DAY, MINUTE, Records, records
from training.world import ACTS, FIELDS, OUTCOMES, TAGS, TYPES, World

HOUR = 3_600_000


def visits(world: World, who: People, shown: Shown, weekday: int, rng: np.random.Generator) -> Records:
    """`weekday`: of the first day, Monday = 0. Times in ms since the start."""
    rate = _rate(world, who, shown.interest, weekday, rng)
    number = rng.poisson(rate)
    person, day = np.nonzero(number)
    again = number[person, day]
    person, day = np.repeat(person, again), np.repeat(day, again)
    at = _moments(who.hour[person], day, rng)
    minutes = np.round(world.minutes * np.exp(rng.normal(0.0, 0.8, len(person))), 1)
    done = rng.poisson(_acts(world, who, shown, person, day))
    minutes += np.round(done.sum(axis=1) * 1.5, 1)
    session = records(person, TYPES.index("session"), at + minutes * MINUTE, value=minutes)
    return session + _in_visit(person, at, minutes, done, rng)


def _rate(world: World, who: People, interest: Array, weekday: int, rng: np.random.Generator) -> Array:
    """(people, days) visits a day."""
    n, days, _ = interest.shape
    week = np.where((np.arange(days) + weekday) % 7 >= 5, world.weekend, 1.0 + 2 * (1 - world.weekend) / 5)
    rate = who.visits[:, None] * week * (1 + (world.burst_factor - 1) * _bursts(world, n, days, rng))
    return rate + world.visits_at_intent * np.minimum(interest.sum(axis=2), 2.0) * week


def _bursts(world: World, n: int, days: int, rng: np.random.Generator) -> Array:
    """(people, days) bool: in a week of much activity."""
    begins = rng.random((n, days), np.float32) < world.bursts / YEAR
    sums = np.cumsum(begins, axis=1, dtype=np.int32)
    sums[:, 7:] -= sums[:, :-7].copy()
    return sums > 0


def _moments(hour: Array, day: Array, rng: np.random.Generator) -> Array:
    return day * DAY + ((hour + rng.normal(0.0, 2.0, len(hour))) % 24) * HOUR


def _acts(world: World, who: People, shown: Shown, person: Array, day: Array) -> Array:
    """(visits, acts) expected number of each act in each visit."""
    interest = shown.interest[person, day] @ _lift([plan.interest for plan in world.plans])
    commitment = shown.commitment[person, day] @ _lift([plan.commitment for plan in world.plans])
    return np.asarray(who.interests[person] + interest + commitment)


def _lift(added: list[dict[str, float]]) -> Array:
    """Kinds x acts."""
    return np.array([[lifts.get(act, 0.0) for act in ACTS] for lifts in added], np.float32)


def _in_visit(person: Array, at: Array, minutes: Array, done: Array, rng: np.random.Generator) -> Records:
    visit, act = np.nonzero(done)
    again = done[visit, act]
    visit, act = np.repeat(visit, again), np.repeat(act, again)
    when = at[visit] + rng.random(len(visit)) * minutes[visit] * MINUTE
    kind = np.array([TYPES.index(name) for name in ACTS])[act]
    field = np.where(act == ACTS.index("profile_update"), TAGS.index("phone"), -1)
    return records(person[visit], kind, when, tag=field)


def life(world: World, these_starts: tuple[Array, Array, Array], rng: np.random.Generator) -> Records:
    """Profile updates of address, job or marital status at the start of some plans: (person, kind, day)."""
    person, kind, day = these_starts
    share = np.array([plan.life_event for plan in world.plans])[kind]
    some = rng.random(len(person)) < share
    field = rng.integers(TAGS.index(FIELDS[0]), TAGS.index(FIELDS[2]) + 1, int(some.sum()))
    when = day[some] * DAY + rng.random(len(field)) * 20 * DAY
    return records(person[some], TYPES.index("profile_update"), when, tag=field)


def outcomes(person: Array, kind: Array, day: Array) -> Records:
    codes = np.array([TYPES.index(name) for name in OUTCOMES])
    return records(person, codes[kind], day * DAY)
