"""Simulated leads of an estate agent: how seriously each one means it is hidden, and shows only in part.

A lead's chance to buy follows from its seriousness, its source, how quickly it was answered, whether it asks about a
certain home, that home's price against the purse, and the market there. What the CRM knows follows from some of these
too, with chance added, and some of it is never told. So `best`, the chance given all that is hidden, ranks better than
any model can.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

Array = np.ndarray[Any, Any]
DAY = 86_400_000
START = 1_672_531_200_000  # 2023-01-01
DAYS = 720
SOURCES = np.array([-1.1, -0.7, -0.3, 0.1, 0.5, 1.0])  # log-odds that the source adds: bought lists ... referrals
SHARES = (0.2, 0.25, 0.2, 0.15, 0.12, 0.08)
UNTOLD = 0.12  # share of leads of which a view was never pushed


class _Leads(msgspec.Struct, frozen=True):
    """(n,) each: what is hidden (`serious`, `purse`), and what is so of the lead at `age` days."""

    serious: Array
    purse: Array
    source: Array
    age: Array
    minutes: Array
    certain: Array
    price: Array
    photos: Array
    market: Array


def rows(people: int, seed: int) -> pa.Table:
    """A row a lead, asked about once while it was open: user, lead_id, as_of, converted, best, and every input."""
    rng = np.random.default_rng((seed, 31))
    born = np.sort(rng.uniform(0, DAYS, people))
    of = _leads(people, rng)
    best = _chance(of, born)
    names = pa.array([f"lead-{i}" for i in range(people)])
    columns: dict[str, Any] = {
        "user": names,
        "lead_id": names,
        "as_of": pa.array(((START + (born + of.age) * DAY) * 1000).astype(np.int64), pa.timestamp("us", tz="UTC")),
        "converted": (rng.random(people) < best).astype(np.int64),
        "best": best,
        "lead_crm:source_quality": _quality(of, born, rng),
        "request:days_since_creation": of.age,
    }
    return pa.table(columns | _activity(of, rng) | _property(of, rng))


def _leads(n: int, rng: np.random.Generator) -> _Leads:
    certain = rng.random(n) < 0.6
    return _Leads(
        serious=rng.normal(0.0, 1.0, n),
        purse=np.exp(rng.normal(12.7, 0.4, n)),
        source=rng.choice(len(SOURCES), n, p=SHARES),
        age=np.minimum(rng.exponential(9.0, n), 60.0),
        minutes=np.exp(rng.normal(4.2, 1.5, n)),
        certain=certain,
        price=np.where(certain, np.exp(rng.normal(12.7, 0.45, n)), 0.0),
        photos=np.where(certain, rng.poisson(11.0, n), 0),
        market=rng.beta(3.0, 3.0, n),
    )


def _chance(of: _Leads, born: Array) -> Array:
    """Of a purchase within 90 days, known all that is hidden. The market cools by and by."""
    dear = np.where(of.certain, np.maximum(np.log(np.maximum(of.price, 1.0) / of.purse), 0.0), 0.0)
    odds = -1.2 + 1.7 * of.serious + SOURCES[of.source] - 0.3 * np.log1p(of.minutes / 60.0)
    odds += 0.8 * of.certain - 1.2 * dear + 1.2 * (of.market - 0.5) - 0.02 * of.age
    odds += 0.015 * np.minimum(of.photos, 15) - 0.3 * born / DAYS
    return np.asarray(1.0 / (1.0 + np.exp(-odds)))


def _quality(of: _Leads, born: Array, rng: np.random.Generator) -> Array:
    """The source's share of conversions so far, as the CRM counted it: noisy while few had come."""
    known = np.array([0.10, 0.14, 0.19, 0.25, 0.33, 0.43])[of.source]
    return np.clip(known + rng.normal(0.0, 0.1, len(known)) / np.sqrt(1.0 + born / 30.0), 0.0, 1.0)


def _activity(of: _Leads, rng: np.random.Generator) -> dict[str, pa.Array]:
    """Serious leads write more and agree on more appointments; so do some who only like to talk."""
    talk = np.exp(0.8 * of.serious + rng.normal(0.0, 0.5, len(of.age)))
    weeks = np.minimum(of.age, 30.0) / 7.0
    received = rng.poisson(0.3 + 0.9 * talk * (0.4 + weeks))
    sent = rng.poisson(0.8 + 0.6 * received + 0.4 * weeks)
    answered = rng.binomial(sent, 1.0 / (1.0 + np.exp(0.6 - 1.1 * of.serious)))
    appointments = rng.poisson(0.25 * talk * (0.3 + weeks))
    found = {
        "response_minutes": of.minutes,
        "messages_in": received,
        "messages_out": sent,
        "appointments": appointments,
        "engagement_rate": answered / np.maximum(sent, 1),
    }
    return _told("lead_activity", found, rng)


def _property(of: _Leads, rng: np.random.Generator) -> dict[str, pa.Array]:
    found: dict[str, Array] = {
        "has_property": of.certain.astype(np.int64),
        "price": np.round(of.price, -3),
        "photos": of.photos,
        "market_activity": of.market,
    }
    return _told("lead_property", found, rng)


def _told(view: str, found: dict[str, Array], rng: np.random.Generator) -> dict[str, pa.Array]:
    """As columns of the view, null for leads of whom it was never pushed."""
    never = rng.random(len(next(iter(found.values())))) < UNTOLD
    return {f"{view}:{name}": pa.array(values.astype(np.float64), mask=never) for name, values in found.items()}
