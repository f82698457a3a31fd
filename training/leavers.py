"""Simulated users who may leave: when somebody decides to is hidden, and shows in fewer and shorter visits.

The chance to decide grows with bad ratings, slow support and a market that falls. After the decision visits fade within
some weeks, for some at once. Others simply come rarely, and look the same for long.
"""

from __future__ import annotations

import msgspec
import numpy as np
import pyarrow as pa

from feature_repo.vocabulary import Vocabulary
from training.happenings import MISSING, Happening, asked, pushed, streamed
from training.people import Array

SINCE = 90  # days to fill the windows; rows are asked for in six horizons after them, and decided in one more
ROWS, FOLLOWED = 4, 300  # rows asked about a person, within so many days after they joined
MAIL_EVERY = 14
ACTS = {
    "document_access": 0.3,
    "calculator_use": 0.12,
    "property_value_check": 0.3,
    "comparable_view": 0.35,
    "market_report_view": 0.15,
}  # a visit


class _Users(msgspec.Struct, frozen=True):
    """(people,) each. Hidden: `visits`, `hazard`, `decides`, `fades`."""

    joins: Array  # day since the start
    visits: Array  # a day, before the decision
    depth: Array  # factor of what is done in a visit
    hazard: Array  # of the decision, a day
    decides: Array  # day since the start
    fades: Array  # days from the decision to the last visit
    rating: Array
    tickets: Array
    hours: Array
    prices: Array
    sales: Array


def rows(horizon: int, people: int, seed: int) -> pa.Table:
    """Instants of people who came within the horizon before: user, as_of, label (stays away), best, and every input."""
    rng, vocabulary = np.random.default_rng((seed, 41)), Vocabulary()
    days = SINCE + 7 * horizon
    who = _users(people, days, rng)
    person, day = _visits(who, days, rng)
    of = streamed(vocabulary, people, days, [*_in_visits(who, person, day, rng), *_mail(who, days, rng)])
    whose = np.repeat(np.arange(people), ROWS)
    when = who.joins[whose] + rng.uniform(0, FOLLOWED, len(whose))
    came, gone = _around(person, day, whose, when, days)
    there = (when - came <= horizon) & (when >= SINCE) & (when < days - horizon)
    whose, when, label = whose[there], when[there], (gone - when > horizon)[there]
    columns = asked(vocabulary, of, f"churn_{horizon}d", whose, when)
    columns |= {"label": label.astype(np.int64), "best": _chance(who, whose, when, horizon)}
    return pa.table(columns | _outside(who, whose, rng))


def _users(n: int, days: int, rng: np.random.Generator) -> _Users:
    joins = rng.uniform(SINCE - FOLLOWED, days, n)
    rating = np.clip(np.round(rng.normal(4.0, 0.8, n), 1), 1.0, 5.0)
    tickets, hours = rng.poisson(0.5, n), np.exp(rng.normal(3.0, 0.8, n))
    prices, sales = rng.normal(0.03, 0.05, n), rng.normal(0.0, 0.12, n)
    odds = -0.6 * (rating - 4) + 0.25 * tickets + 0.15 * tickets * np.log(hours / 20) - 4.0 * prices - 1.5 * sales
    hazard = 0.003 * np.exp(odds + rng.normal(0.0, 0.6, n))
    return _Users(
        joins=joins,
        visits=0.01 + 0.07 * rng.gamma(0.7, 1 / 0.7, n),
        depth=rng.gamma(2.0, 0.5, n),
        hazard=hazard,
        decides=joins + rng.exponential(size=n) / hazard,
        fades=np.where(rng.random(n) < 0.25, 0.0, rng.uniform(20.0, 120.0, n)),
        rating=rating,
        tickets=tickets,
        hours=hours,
        prices=prices,
        sales=sales,
    )


def _left(who: _Users, person: Array, day: Array) -> Array:
    """How much of the wish to come is left: 1 until the decision, then falling to 0."""
    since = day - who.decides[person]
    faded = 1.0 - since / np.maximum(who.fades[person], 1e-9)
    return np.where(since < 0, 1.0, np.maximum(faded, 0.0))


def _visits(who: _Users, days: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """(person, day) by person, then time."""
    number = rng.poisson(who.visits * days)
    person, day = np.repeat(np.arange(len(number)), number), rng.uniform(0, days, int(number.sum()))
    order = np.lexsort((day, person))
    day = day[order]
    came = (rng.random(len(day)) < _left(who, person, day)) & (day >= who.joins[person])
    return person[came], day[came]


def _in_visits(who: _Users, person: Array, day: Array, rng: np.random.Generator) -> list[Happening]:
    left = _left(who, person, day)
    minutes = np.round(7.0 * (0.5 + 0.5 * left) * np.exp(rng.normal(0.0, 0.8, len(day))), 1)
    parts = [Happening("session", person, day, minutes)]
    for act, usual in ACTS.items():
        done = rng.poisson(usual * who.depth[person] * left)
        parts.append(Happening(act, np.repeat(person, done), np.repeat(day, done) - 0.001))
    return parts


def _mail(who: _Users, days: int, rng: np.random.Generator) -> list[Happening]:
    day = np.arange(0, days, MAIL_EVERY) + 0.4
    person, sent = np.repeat(np.arange(len(who.visits)), len(day)), np.tile(day, len(who.visits))
    known = sent >= who.joins[person]
    person, sent = person[known], sent[known]
    opened = rng.random(len(sent)) < 0.3 * (0.25 + 0.75 * _left(who, person, sent))
    return [Happening("email_sent", person, sent), Happening("email_open", person[opened], sent[opened] + 0.2)]


def _around(person: Array, day: Array, whose: Array, when: Array, days: int) -> tuple[Array, Array]:
    """The last visit until each instant, and the next after it; -inf and inf where there is none."""
    turn = 4.0 * days
    visits = np.concatenate([[-np.inf], person * turn + day, [np.inf]])
    place = np.searchsorted(visits, whose * turn + when, side="right")
    before, after = visits[place - 1] - whose * turn, visits[place] - whose * turn
    return np.where(before < 0, -np.inf, before), np.where(after > days, np.inf, after)


def _chance(who: _Users, person: Array, day: Array, horizon: int, steps: int = 60) -> Array:
    """(n,) of no visit within the horizon, known all that is hidden but for the hour of a decision yet to come.

    A sum over `steps` times at which it may be decided, and over its never being decided meanwhile.
    """
    decided = who.decides[person] <= day
    known = np.exp(-who.visits[person] * _wish(who.decides[person], who.fades[person], day, horizon))
    total = np.exp(-(who.hazard[person] + who.visits[person]) * horizon)
    for step in range(steps):
        low, high = step * horizon / steps, (step + 1) * horizon / steps
        share = np.exp(-who.hazard[person] * low) - np.exp(-who.hazard[person] * high)
        wish = _wish(day + (low + high) / 2, who.fades[person], day, horizon)
        total += share * np.exp(-who.visits[person] * wish)
    return np.asarray(np.where(decided, known, total))


def _wish(decides: Array, fades: Array, day: Array, horizon: int) -> Array:
    """Days' worth of wish to come from `day` until the horizon."""
    full = np.clip(decides - day, 0.0, horizon)
    spread = np.maximum(fades, 1e-9)
    low, high = (np.clip((at - decides) / spread, 0.0, 1.0) for at in (day, day + horizon))
    return np.asarray(full + spread * ((high - high**2 / 2) - (low - low**2 / 2)))


def _outside(who: _Users, person: Array, rng: np.random.Generator) -> dict[str, pa.Array]:
    """What support and the market's watchers push."""
    people = len(who.visits)
    unheard, unknown = rng.random(people) < 0.4, rng.random(people) < MISSING  # most never rate
    satisfied = {"rating": who.rating, "tickets_90d": who.tickets, "resolution_hours": who.hours}
    market = {"price_change_1y": who.prices, "sales_change_90d": who.sales}
    return {
        **pushed("user_satisfaction", {name: column[person] for name, column in satisfied.items()}, unheard[person]),
        **pushed("user_market", {name: column[person] for name, column in market.items()}, unknown[person]),
    }
