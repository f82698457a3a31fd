"""Simulated mail, and who opens it: a person's habits are hidden, and show in what they opened before.

Whether somebody opens a mail follows from how they take mail at all, when it comes, what it is like, how many came of
late, and where they live. Some people's mail is opened by a program.
"""

from __future__ import annotations

import msgspec
import numpy as np
import pyarrow as pa

from feature_repo.vocabulary import Vocabulary
from training.happenings import MISSING, Happening, asked, pushed, streamed
from training.people import Array

DAYS, SINCE = 157, 90  # rows begin when the windows are full, and end a horizon before the end
HORIZON = 7
EVERY = 6.0  # days between two mails to one person, in the mean
ROWS = 2  # asked about a person
MACHINE_OPENS = 0.85
PLACES = np.array([-0.5, -0.25, 0.0, 0.1, 0.3, 0.5])  # log-odds that the place where somebody lives adds


class _Readers(msgspec.Struct, frozen=True):
    """(people,) each, hidden all of them."""

    opens: Array  # log-odds
    visits: Array  # a day
    hour: Array  # at which they like to read
    machine: Array  # bool: a program opens their mail
    mobile: Array  # share read on a phone
    place: Array


class _Mails(msgspec.Struct, frozen=True):
    """(mails,) each, by person, then time."""

    person: Array
    day: Array  # since the start, with its fraction
    campaign: Array  # bool
    words: Array
    links: Array
    images: Array
    hot: Array


def rows(people: int, seed: int) -> pa.Table:
    """Some mails of each person: user, as_of (when it leaves), label (opened), best, and every input."""
    rng, vocabulary = np.random.default_rng((seed, 37)), Vocabulary()
    who = _readers(people, rng)
    mails = _mails(people, rng)
    best = _chance(who, mails)
    opened = rng.random(len(best)) < best
    of = streamed(vocabulary, people, DAYS, _happenings(who, mails, opened, rng))
    chosen = _chosen(mails, rng)
    person, day = mails.person[chosen], mails.day[chosen]
    columns = asked(vocabulary, of, "email_engagement", person, day)
    content = {name: column[chosen] for name, column in _content(mails).items()}
    history = {name: column[chosen] for name, column in _history(who, mails, rng).items()}
    untold = (rng.random(people) < MISSING)[person]
    columns |= {"label": opened[chosen].astype(np.int64), "best": best[chosen]}
    return pa.table(columns | content | pushed("email_history", history, untold))


def _readers(n: int, rng: np.random.Generator) -> _Readers:
    return _Readers(
        opens=rng.normal(-1.2, 1.0, n),
        visits=0.1 * rng.gamma(0.8, 1 / 0.8, n),
        hour=np.where(rng.random(n) < 0.5, rng.normal(19.5, 1.5, n), rng.normal(9.0, 2.0, n)) % 24,
        machine=rng.random(n) < 0.08,
        mobile=rng.beta(1.5, 1.5, n),
        place=rng.integers(0, len(PLACES), n),
    )


def _mails(people: int, rng: np.random.Generator) -> _Mails:
    number = rng.poisson(DAYS / EVERY, people)
    n = int(number.sum())
    person, at = np.repeat(np.arange(people), number), np.floor(rng.uniform(0, DAYS, n))
    hour = np.clip(rng.normal(12.0, 4.0, n), 6.0, 22.0)
    order = np.lexsort((at, person))
    return _Mails(
        person=person,
        day=at[order] + hour / 24,
        campaign=rng.random(n) < 0.8,
        words=np.round(np.exp(rng.normal(5.5, 0.6, n))),
        links=rng.poisson(4.0, n),
        images=rng.poisson(2.0, n),
        hot=np.round(np.minimum(rng.gamma(1.3, 0.9, n), 5.0), 1),
    )


def _chance(who: _Readers, of: _Mails) -> Array:
    """(mails,) that it is opened, known all that is hidden."""
    person = of.person
    apart = of.day % 1 * 24 - who.hour[person]
    odds = who.opens[person] + PLACES[who.place[person]] + 0.6 * np.cos(2 * np.pi * apart / 24)
    odds += 0.35 * np.log(np.maximum(who.visits[person], 0.01) / 0.1) - 0.9 * of.campaign
    odds -= 0.35 * np.log(of.words / 250) + 0.08 * np.maximum(of.links - 5, 0) + 0.3 * of.hot
    odds -= 0.5 * (_weekday(of) >= 5) * (1 - who.mobile[person])
    return np.where(who.machine[person], MACHINE_OPENS, 1.0 / (1.0 + np.exp(-odds)))


def _weekday(of: _Mails) -> Array:
    return (np.floor(of.day) + 6) % 7  # the first day is a Sunday


def _happenings(who: _Readers, of: _Mails, opened: Array, rng: np.random.Generator) -> list[Happening]:
    person, day = of.person[opened], of.day[opened]
    late = np.where(who.machine[person], 0.0005, np.minimum(rng.exponential(0.2, len(day)), HORIZON - 0.1))
    clicked = (rng.random(len(day)) < 0.15) & ~who.machine[person]
    visits = rng.poisson(who.visits * DAYS)
    return [
        Happening("email_sent", of.person, of.day),
        Happening("email_open", person, day + late),
        Happening("email_click", person[clicked], day[clicked] + late[clicked] + 0.001),
        Happening("session", np.repeat(np.arange(len(visits)), visits), rng.uniform(0, DAYS, int(visits.sum()))),
    ]


def _chosen(of: _Mails, rng: np.random.Generator) -> Array:
    """Some mails of each person, of those whose windows are full and whose horizon is over."""
    able = np.flatnonzero((of.day >= SINCE) & (of.day < DAYS - HORIZON))
    mixed = able[np.lexsort((rng.random(len(able)), of.person[able]))]
    nth = np.arange(len(mixed)) - np.searchsorted(of.person[mixed], of.person[mixed])
    return np.sort(mixed[nth < ROWS])


def _content(of: _Mails) -> dict[str, Array]:
    found = {
        "send_hour": np.floor(of.day % 1 * 24),
        "send_weekday": _weekday(of),
        "mail_words": of.words,
        "mail_links": of.links,
        "mail_images": of.images,
        "subject_hotness": of.hot,
        "is_campaign": of.campaign,
    }
    return {f"request:{name}": column.astype(np.float64) for name, column in found.items()}


def _history(who: _Readers, of: _Mails, rng: np.random.Generator) -> dict[str, Array]:
    """What the mail service counted, each mail's person's."""
    people = len(who.opens)
    noise = rng.normal(0.0, 0.08, people)
    first = np.searchsorted(of.person, np.arange(people))
    return {
        "mails_sent": np.arange(len(of.day)) - first[of.person],
        "machine_opens": np.clip(np.where(who.machine, 0.9, 0.04) + noise, 0.0, 1.0)[of.person],
        "mobile_share": np.clip(who.mobile + noise, 0.0, 1.0)[of.person],
        "location_opens": (0.2 + 0.14 * PLACES)[who.place][of.person],
    }
