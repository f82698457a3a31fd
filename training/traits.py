"""What `identify` tells of people: at the start, and again when something changed or once a year."""

from __future__ import annotations

import msgspec
import numpy as np

from training.people import YEAR, Array, People
from training.records import DAY
from training.world import TEXT_TRAITS


class Told(msgspec.Struct, frozen=True):
    """One element a trait told. `value`: a number, ms since 1970 for a date, a serial number for a text."""

    person: Array
    trait: Array  # index into world.TRAITS
    value: Array
    ts: Array  # ms since the start (later: since 1970)


def told(who: People, days: int, start: int, rng: np.random.Generator) -> Told:
    """All that is known on the first day, and each year anew: values drift, debts fall, some texts change."""
    parts = [_round(who, year, start, rng) for year in range(-(-days // YEAR))]
    columns = (np.concatenate(column) for column in zip(*parts, strict=True))
    person, trait, value, ts = columns
    keep = np.flatnonzero(ts < days * DAY)
    keep = keep[np.argsort(ts[keep], kind="stable")]
    return Told(person[keep], trait[keep], value[keep], ts[keep])


def _round(who: People, year: int, start: int, rng: np.random.Generator) -> tuple[Array, ...]:
    n = len(who)
    when = year * YEAR * DAY + (rng.random(n) * (DAY if year == 0 else YEAR * DAY)).astype(np.int64)
    bought = start - who.owned_years * 365.25 * DAY
    text = np.stack([np.full(n, 1.0) + (rng.random(n) < 0.12) * year for _ in TEXT_TRAITS], axis=1)
    numbers = np.stack([who.properties, who.value * 1.03**year, who.mortgage * 0.96**year, bought], axis=1)
    values = np.round(np.concatenate([numbers, text], axis=1))
    known = who.told.copy()
    known[:, 1:4] &= who.properties[:, None] > 0
    person, trait = np.nonzero(known)
    return person.astype(np.int32), trait.astype(np.int8), values[person, trait], when[person]
