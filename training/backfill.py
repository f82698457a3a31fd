"""History through the same window code as the stream: features of people as of any instants."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec
import numpy as np

from feature_repo.vocabulary import UNKNOWN, Vocabulary
from flows.plan import Plan
from flows.windows import Table
from training.people import Array
from training.simulate import History
from training.world import TAGS, TEXT_TRAITS, TRAITS, TYPES

Read = Callable[[Table, Array], Array]  # (table, distinct rows (n,)) -> (n, columns)
CHUNK = 2000  # people worked at once: their rows stay in the processor's cache

_SPREAD = np.uint64(0x9E3779B97F4A7C15)  # apart as hashes are: the table's index takes neighbours badly


class Stream(msgspec.Struct, frozen=True):
    """What the log of one history would hold, in its order: columns of events, and of traits told.

    `person` numbers people from 0; `now` and `trait_now` are the log's time at each: what was logged after an
    instant is no part of it, however early it happened. `seen`: from when it counts as this person's, where that is
    later than it was logged: an anonymous person's event, once it is known who they are.
    """

    people: int
    start: int  # ms since 1970
    end: int
    person: Array
    code: Array
    value: Array
    ts: Array
    now: Array
    trait_person: Array
    trait: Array
    trait_bits: Array
    trait_ts: Array
    trait_now: Array
    seen: Array | None = None


def stream(history: History, vocabulary: Vocabulary) -> Stream:
    """A simulated history under a vocabulary's numbers."""
    events, told = history.events, history.told
    scale = np.array([vocabulary.event[name].scale for name in TYPES])
    value = np.nan_to_num(np.round(events.value * scale[events.type])).astype(np.int64)
    return Stream(
        history.people,
        history.start,
        history.end,
        events.person.astype(np.int64),
        _codes(vocabulary)[events.type, events.tag],
        value,
        events.ts,
        events.ts,
        told.person.astype(np.int64),
        np.array([vocabulary.trait_id[name] for name in TRAITS])[told.trait],
        _bits(told.trait, told.value),
        told.ts,
        told.ts,
    )


def _codes(vocabulary: Vocabulary) -> Array:
    """(types, tags + 1) event code; the last column stands for no tag."""
    return np.array(
        [
            [vocabulary.code.get((name, tag), vocabulary.code.get((name, None), UNKNOWN)) for tag in (*TAGS, None)]
            for name in TYPES
        ]
    )


def _bits(trait: Array, value: Array) -> Array:
    text = np.isin(trait, [TRAITS.index(name) for name in TEXT_TRAITS])
    return np.where(text, value.astype(np.int64), value.astype(np.float64).view(np.int64))


def features(plan: Plan, of: Stream, person: Array, at: Array) -> Array:
    """Features of each person as of each instant (ms since 1970), which the instant's own events are part of.

    person, at: (n,) in any order -> float64 (n, features). Instants of one person are worked one after
    another, those of different people at once.
    """
    return worked(plan, of, person, at, Table.evaluate)


def worked(plan: Plan, of: Stream, person: Array, at: Array, read: Read) -> Array:
    """What `read` finds in the table of each person as of each instant: (n, columns)."""
    out = read(Table(plan, 1), np.zeros(0, np.int64))
    out = np.empty((len(person), out.shape[1]))
    rows = _by_chunk(person, of.people)
    events, traits = _by_chunk(of.person, of.people), _by_chunk(of.trait_person, of.people)
    for mine, these, told in zip(rows, events, traits, strict=True):
        if len(mine):
            for which, found in _Chunk(plan, of, these, told).work(person[mine], at[mine], read):
                out[mine[which]] = found
    return out


def _by_chunk(person: Array, people: int) -> list[Array]:
    chunk = (person // CHUNK).astype(np.int32)
    order = np.argsort(chunk, kind="stable")
    return np.split(order, np.searchsorted(chunk[order], np.arange(1, -(-people // CHUNK))))


class _Chunk:
    """Some people's events and traits, and the table that they go through."""

    def __init__(self, plan: Plan, of: Stream, events: Array, traits: Array) -> None:
        self._table = Table(plan, CHUNK)
        self._row_of = np.full(CHUNK, -1)
        self._of, self._events, self._traits = of, events, traits

    def work(self, person: Array, at: Array, read: Read) -> Iterator[tuple[Array, Array]]:
        """(which instants, what was read), a round after the other."""
        order = np.lexsort((at, person))
        asked = key(person[order], at[order])
        nth = np.arange(len(order)) - np.searchsorted(person[order], person[order])
        seen = self._of.now if self._of.seen is None else self._of.seen
        events = self._rounds(asked, person[order], nth, self._of.person[self._events], seen[self._events])
        traits = self._rounds(
            asked, person[order], nth, self._of.trait_person[self._traits], self._of.trait_now[self._traits]
        )
        self._row_of = self._table.allocate(np.arange(CHUNK, dtype=np.uint64) * _SPREAD)
        for k in range(int(nth.max()) + 1):
            self._apply(self._events[events == k], self._traits[traits == k])
            which = order[nth == k]
            rows = self._row_of[person[which] % CHUNK]
            self._table.touch(rows, at[which])
            yield which, read(self._table, rows)

    def _rounds(self, asked: Array, person: Array, nth: Array, whose: Array, now: Array) -> Array:
        """Before which of the person's instants each event was logged; -1 = after the last."""
        next_ = np.searchsorted(asked, key(whose, now))
        next_ = np.minimum(next_, len(asked) - 1)
        found = (person[next_] == whose) & (asked[next_] >= key(whose, now))
        return np.where(found, nth[next_], -1)

    def _apply(self, events: Array, traits: Array) -> None:
        of = self._of
        self._table.apply(
            self._row_of[of.person[events] % CHUNK], of.code[events], of.value[events], of.ts[events], of.now[events]
        )
        rows = self._row_of[of.trait_person[traits] % CHUNK]
        self._table.apply_traits(rows, of.trait[traits], of.trait_bits[traits], of.trait_ts[traits])


def key(person: Array, at: Array) -> Array:
    """One number that sorts by person, then time."""
    return (person.astype(np.int64) << 42) | at
