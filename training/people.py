"""Who lives in a simulated world: habits and belongings, drawn once and for all."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from training.world import ACTS, OUTCOMES, World

Array = np.ndarray[Any, Any]
YEAR = 365


class People(msgspec.Struct, frozen=True):
    """One element a person in each column; (n, acts) in `interests`, (n, outcomes) in `leaning`."""

    visits: Array  # a day
    interests: Array  # acts a visit, without a plan
    hour: Array  # of the day, when they like to visit
    openness: Array  # chance that they open a mail
    machine: Array  # bool: a program opens their mail
    subscribed: Array  # bool
    trace: Array  # how much their plans show; 0 = not at all
    properties: Array
    value: Array  # USD, all property
    mortgage: Array  # USD
    owned_years: Array  # at the start
    leaning: Array  # factor of each plan's rate, mean about 1
    told: Array  # (n, traits) bool: the CRM knows it

    def __len__(self) -> int:
        return len(self.visits)


def people(world: World, n: int, rng: np.random.Generator) -> People:
    properties = rng.choice(4, n, p=(0.34, 0.52, 0.1, 0.04))
    value = properties * np.exp(rng.normal(12.8, 0.45, n))
    mortgage = value * rng.beta(2.0, 2.2, n) * (rng.random(n) < 0.7)
    owned = rng.gamma(1.6, 7.0, n) * (properties > 0)
    told = (rng.random((n, 7)) >= world.missing_traits) & (rng.random((n, 1)) >= world.unknown_people)
    return People(
        visits=world.visits * rng.gamma(world.visits_shape, 1 / world.visits_shape, n),
        interests=_interests(world, n, rng),
        hour=np.where(rng.random(n) < 0.6, rng.normal(20.0, 1.5, n), rng.normal(12.5, 2.5, n)) % 24,
        openness=world.opens * rng.gamma(2.0, 0.5, n),
        machine=rng.random(n) < world.machine_readers,
        subscribed=rng.random(n) < world.subscribed,
        trace=np.exp(rng.normal(0.0, world.trace_spread, n)) * (rng.random(n) >= world.silent),
        properties=properties,
        value=np.round(value),
        mortgage=np.round(mortgage),
        owned_years=owned,
        leaning=_leaning(properties, mortgage, owned),
        told=told,
    )


def _interests(world: World, n: int, rng: np.random.Generator) -> Array:
    usual = np.array([world.acts[act] for act in ACTS])
    return usual * rng.gamma(world.acts_shape, 1 / world.acts_shape, (n, len(ACTS)))


def _leaning(properties: Array, mortgage: Array, owned: Array) -> Array:
    """Only owners sell, only debtors refinance, and renters buy more; each column's mean is 1."""
    raw = np.ones((len(properties), len(OUTCOMES)))
    raw[:, 0] = np.where(properties > 0, 0.5 + np.minimum(owned, 20.0) / 20.0, 0.0)
    raw[:, 1] = np.where(properties > 0, 0.7, 1.6)
    raw[:, 2] = np.where(mortgage > 0, 1.0, 0.0)
    raw[:, 3] = 0.4 + 0.6 * properties
    return raw / np.maximum(raw.mean(axis=0), 1e-9)
