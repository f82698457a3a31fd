"""Mail campaigns: what is sent, what programs open, what people open and click."""

from __future__ import annotations

import numpy as np

from training.people import Array, People
from training.records import DAY, MINUTE, Records, records
from training.world import TAGS, TOPICS, TYPES, World


def mail(world: World, who: People, interest: Array, rng: np.random.Generator) -> Records:
    """Every campaign goes to all who subscribed, at nine in the morning; topics take turns."""
    days = interest.shape[1]
    campaign = np.arange(0, days, world.mail_every_days)
    person = np.repeat(np.flatnonzero(who.subscribed), len(campaign))
    day = np.tile(campaign, int(who.subscribed.sum()))
    topic = day // world.mail_every_days % len(TOPICS)
    sent = day * DAY + 9 * 60 * MINUTE + rng.random(len(day)) * 60 * MINUTE
    keen = _keen(world, interest, person, day, topic)
    opened = sent + rng.exponential(300.0, len(day)) * MINUTE
    read = rng.random(len(day)) < who.openness[person] + 0.4 * keen
    machine = who.machine[person] & (rng.random(len(day)) < 0.9)
    clicked = read & (rng.random(len(day)) < world.clicks + world.clicks_at_intent * keen)
    tag = TAGS.index(TOPICS[0]) + topic
    return (
        records(person, TYPES.index("email_sent"), sent, tag)
        + _some(person, "email_open", sent + 2 * MINUTE, tag, machine)
        + _some(person, "email_open", opened, tag, read & ~machine)
        + _some(person, "email_click", opened + MINUTE, tag, clicked)
    )


def _some(person: Array, kind: str, ts: Array, tag: Array, which: Array) -> Records:
    return records(person[which], TYPES.index(kind), ts[which], tag[which])


def _keen(world: World, interest: Array, person: Array, day: Array, topic: Array) -> Array:
    """(n,) 0-1: how much the intent shown makes this mail welcome."""
    shown = interest[person, day]
    wanted = np.array([[plan.topic == name for plan in world.plans] for name in TOPICS], np.float32)
    return np.minimum((shown * wanted[topic]).sum(axis=1), 1.0)
