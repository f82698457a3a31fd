"""A simulated world: people with hidden plans, and the events and traits that show of them.

Deterministic by seed and independent of how many people there are: person n is the same in every size of world.
"""

from __future__ import annotations

import msgspec
import numpy as np

from training import plans as hidden
from training.mail import mail
from training.people import Array, People, people
from training.records import DAY, Records, in_order, join
from training.traits import Told, told
from training.visits import life, outcomes, visits
from training.world import FIRST, OUTCOMES, TYPES, World

CHUNK = 1000  # people drawn together
EPOCH = 1_672_531_200_000  # 2023-01-01, a start as good as any


class Era(msgspec.Struct, frozen=True):
    """A time of a world: the same people live in each, with other plans. `start` in ms since 1970."""

    start: int = EPOCH
    number: int = 0


class History(msgspec.Struct, frozen=True):
    """What happened in a simulated world from `start` (ms since 1970) on, in order of time."""

    people: int
    start: int
    days: int
    events: Records  # ts in ms since 1970
    message: Array  # number of the message, unique
    told: Told  # ts in ms since 1970
    plans: hidden.Plans

    @property
    def end(self) -> int:
        return self.start + self.days * DAY

    def best(self, person: Array, at: Array, outcome: str, horizon_days: float) -> Array:
        """(n,) chance of the outcome within the horizon, known the hidden state at `at` (ms since 1970)."""
        day = (at - self.start) / DAY
        return hidden.chance(self.plans, person, day, OUTCOMES.index(outcome), horizon_days)


def simulate(n: int, days: int, seed: int, world: World = FIRST, era: Era = Era()) -> History:  # noqa: B008  # frozen
    chunks = [_chunk(world, at, days, seed, era) for at in range(0, n, CHUNK)]
    cut = [_first(chunk, min(CHUNK, n - CHUNK * k)) for k, chunk in enumerate(chunks)]
    return _history(cut, n, days, era.start)


class _Chunk(msgspec.Struct, frozen=True):
    at: int
    events: Records
    message: Array
    told: Told
    plans: hidden.Plans


def _chunk(world: World, at: int, days: int, seed: int, era: Era) -> _Chunk:
    who = people(world, CHUNK, np.random.default_rng((seed, at // CHUNK)))
    rng = np.random.default_rng((seed, at // CHUNK, era.number + 1))
    these = hidden.plans(world, who, days, era.start / DAY % 365.25, rng)
    shown = hidden.shown(world, these, who, days)
    weekday = (era.start // DAY + 3) % 7
    made = [
        visits(world, who, shown, weekday, rng),
        mail(world, who, shown.interest, rng),
        life(world, (these.person, these.kind, these.start), rng),
        outcomes(*hidden.acts(these)),
    ]
    events = in_order(join(made), days * DAY)
    message = np.arange(len(events), dtype=np.int64) + (at // CHUNK << 32)
    return _Chunk(at, events, message, told(who, days, era.start, rng), these)


def _first(chunk: _Chunk, n: int) -> _Chunk:
    """Only the first n people."""
    if n == CHUNK:
        return chunk
    rows = np.flatnonzero(chunk.events.person < n)
    tell = np.flatnonzero(chunk.told.person < n)
    mine = np.flatnonzero(chunk.plans.person < n)
    return _Chunk(
        chunk.at,
        chunk.events.take(rows),
        chunk.message[rows],
        Told(*(getattr(chunk.told, name)[tell] for name in Told.__struct_fields__)),
        _plans_of(chunk.plans, mine, n),
    )


def _plans_of(these: hidden.Plans, rows: Array, n: int) -> hidden.Plans:
    columns = {name: getattr(these, name) for name in these.__struct_fields__}
    cut = {name: column[:n] if name.startswith("sudden") else column[rows] for name, column in columns.items()}
    return hidden.Plans(**cut)


def _history(chunks: list[_Chunk], n: int, days: int, start: int) -> History:
    events = join([_shift(chunk.events, chunk.at, start) for chunk in chunks])
    order = np.argsort(events.ts, kind="stable")
    tell = _told([chunk.told for chunk in chunks], [chunk.at for chunk in chunks], start)
    message = np.concatenate([chunk.message for chunk in chunks])[order]
    return History(n, start, days, events.take(order), message, tell, _together(chunks))


def _shift(events: Records, at: int, start: int) -> Records:
    return msgspec.structs.replace(events, person=events.person + np.int32(at), ts=events.ts + start)


def _told(parts: list[Told], offsets: list[int], start: int) -> Told:
    person = np.concatenate([part.person + np.int32(at) for part, at in zip(parts, offsets, strict=True)])
    trait, value, ts = (np.concatenate([getattr(part, name) for part in parts]) for name in ("trait", "value", "ts"))
    order = np.argsort(ts, kind="stable")
    return Told(person[order], trait[order], value[order], ts[order] + start)


def _together(chunks: list[_Chunk]) -> hidden.Plans:
    parts = [msgspec.structs.replace(chunk.plans, person=chunk.plans.person + chunk.at) for chunk in chunks]
    names = hidden.Plans.__struct_fields__
    return hidden.Plans(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


__all__ = ["DAY", "EPOCH", "OUTCOMES", "TYPES", "History", "People", "Told", "simulate"]
