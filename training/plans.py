"""The hidden state: who wants what since when, how it ramps, and when it ends in an act.

A plan of duration D has intent u^1.5 at the share u of its way, and the hazard of the act integrates to H u^4:
most acts come late. So whoever could see the hidden state would know the chance of an act within a horizon
exactly, `chance` below: the best that any model can reach.
"""

from __future__ import annotations

import msgspec
import numpy as np

from training.people import YEAR, Array, People
from training.world import World

SLOTS = 3  # plans of one kind that one person may have in one simulation
STEEP = 4.0


class Plans(msgspec.Struct, frozen=True):
    """Times in days since the start. One element a plan; `sudden` is (people, kinds), acts a day without a plan."""

    person: Array
    kind: Array
    start: Array
    duration: Array
    end: Array  # the act, or the end of the way
    hazard: Array  # integrated over the way
    serious: Array
    act: Array  # infinite = none
    sudden: Array
    sudden_act: Array  # (people, kinds), infinite = none


def plans(world: World, who: People, days: int, yearday: float, rng: np.random.Generator) -> Plans:
    """`yearday`: day of the year at the start, for the seasons."""
    kinds = [_of_kind(world, k, who, days, rng) for k in range(len(world.plans))]
    person, kind, start, duration, serious = (np.concatenate(parts) for parts in zip(*kinds, strict=True))
    start = _in_season(world, kind, start, yearday)
    hazard = np.where(serious, world.serious_hazard, world.dreamer_hazard)
    need = rng.exponential(size=len(person))
    act = np.where(need < hazard, start + duration * (need / hazard) ** (1 / STEEP), np.inf)
    act = np.where((act >= 0) & (act < days), act, np.inf)
    ended = (start + duration * (need / hazard) ** (1 / STEEP) < 0) & (need < hazard)  # acted before the start
    keep = ~ended
    sudden = who.leaning * np.array([plan.yearly * plan.sudden for plan in world.plans]) / YEAR
    first = rng.exponential(size=sudden.shape) / np.maximum(sudden, 1e-12)
    end = np.minimum(act, start + duration)
    person, kind, start, duration, end, hazard, serious, act = (
        column[keep] for column in (person, kind, start, duration, end, hazard, serious, act)
    )
    first = np.where(first < days, first, np.inf)
    return Plans(person, kind, start, duration, end, hazard, serious, act, sudden, first)


def _of_kind(world: World, k: int, who: People, days: int, rng: np.random.Generator) -> tuple[Array, ...]:
    """Plans of one kind that overlap the simulated time; the earliest began before it."""
    plan = world.plans[k]
    before = 2.5 * world.ramp_days
    acting = 1 - np.exp(-world.serious_hazard) + world.dreamers * (1 - np.exp(-world.dreamer_hazard))
    rate = who.leaning[:, k] * plan.yearly * (1 - plan.sudden) / acting * (1 + world.dreamers) / YEAR
    number = np.minimum(rng.poisson(rate * (days + before)), SLOTS)
    person = np.repeat(np.arange(len(who)), number)
    start = rng.uniform(-before, days, len(person))
    duration = world.ramp_days * np.exp(rng.normal(0.0, world.ramp_spread, len(person)))
    serious = rng.random(len(person)) < 1 / (1 + world.dreamers)
    return person, np.full(len(person), k), start, duration, serious


def _in_season(world: World, kind: Array, start: Array, yearday: float) -> Array:
    """Starts moved so that most are in March."""
    spring = np.array([plan.spring for plan in world.plans])[kind]
    turn = 2 * np.pi * (start + yearday + 31) / YEAR
    return start + spring * YEAR / (2 * np.pi) * np.cos(turn)


class Shown(msgspec.Struct, frozen=True):
    """What plans show on each day, float32 (people, days, kinds): 0 = nothing, 1 = usual at the end."""

    interest: Array
    commitment: Array


def shown(world: World, these: Plans, who: People, days: int) -> Shown:
    shape = (len(who), days, len(world.plans))
    out = Shown(np.zeros(shape, np.float32), np.zeros(shape, np.float32))
    day = np.arange(days, dtype=np.float32) + 0.5
    for at in _apart(these.person * len(world.plans) + these.kind):
        way = (day - these.start[at, None]) / these.duration[at, None]
        interest = np.clip(way, 0, 1) ** 1.5 * (day < these.end[at, None]) * who.trace[these.person[at], None]
        meant = np.where(these.serious[at], 1.0, world.dreamer_commitment)[:, None]
        out.interest[these.person[at], :, these.kind[at]] += interest
        out.commitment[these.person[at], :, these.kind[at]] += interest * meant
    return out


def _apart(key: Array) -> list[Array]:
    """Positions in groups within which no key comes twice."""
    order = np.argsort(key, kind="stable")
    ranked = key[order]
    rank = np.arange(len(key)) - np.searchsorted(ranked, ranked)
    return [order[rank == r] for r in range(int(rank.max(initial=-1)) + 1)]


def acts(these: Plans) -> tuple[Array, Array, Array]:
    """(person, kind, day) of every outcome."""
    planned = np.isfinite(these.act)
    person, kind = np.nonzero(np.isfinite(these.sudden_act))
    return (
        np.concatenate([these.person[planned], person]),
        np.concatenate([these.kind[planned], kind]),
        np.concatenate([these.act[planned], these.sudden_act[person, kind]]),
    )


def chance(these: Plans, person: Array, day: Array, kind: int, horizon: float) -> Array:
    """(n,) chance of an act within `horizon` days after `day`, known the hidden state on that day.

    Counts every plan that has begun and not ended, and sudden acts; plans yet to come are nobody's to know.
    """
    total = these.sudden[person, kind] * horizon
    mine = np.flatnonzero(these.kind == kind)
    mine = mine[np.argsort(these.person[mine], kind="stable")]
    low = np.searchsorted(these.person[mine], person, "left")
    high = np.searchsorted(these.person[mine], person, "right")
    for slot in range(SLOTS):
        rows = np.flatnonzero(low + slot < high)
        total[rows] += _left(these, mine[low[rows] + slot], day[rows], horizon)
    return 1.0 - np.exp(-total)


def _left(these: Plans, plan: Array, day: Array, horizon: float) -> Array:
    start, duration = these.start[plan], these.duration[plan]
    now = np.clip((day - start) / duration, 0, 1)
    then = np.clip((day + horizon - start) / duration, 0, 1)
    alive = (day >= start) & (day < these.end[plan])
    return np.where(alive, these.hazard[plan] * (then**STEEP - now**STEEP), 0.0)
