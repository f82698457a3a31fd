"""What people's rows lack of today's columns: what all of a partition's log makes, less what was counted of it.

What was counted of an event follows from the era in which its entry was read, from what the door made of it, and from
the person's origin (`flows.eras`). Both are sums of integers a tile, so what is lacking is their difference.
"""

from __future__ import annotations

import msgspec
import numpy as np
import redis

from feature_repo import keys
from feature_repo.finish import DAY
from feature_repo.vocabulary import KEEP_DAYS, UNKNOWN, spelled
from flows import tiles
from flows.eras import Eras
from flows.plan import Ragged
from flows.windows import Table
from training.people import Array

Amounts = tuple[Array, Array, Array]
Pair = tuple[str | None, str | None]  # event type and tag


class Seen(msgspec.Struct, frozen=True):
    """Events of a partition as columns (n,), in the log's order.

    `person`: place among the people; `entry`: as `place`; `pair`: what the door took it for, in `pairs`, or -1;
    `measured`: the value that went with it; `code`, `value`: what today's vocabulary makes of it; `sent`: its name as
    sent, in `names`.
    """

    person: Array
    entry: Array
    ts: Array
    now: Array
    pair: Array
    measured: Array
    code: Array
    value: Array
    sent: Array
    pairs: list[Pair]
    names: list[str]


class Told(msgspec.Struct, frozen=True):
    """Traits that were told, as columns (n,), in the log's order."""

    person: Array
    entry: Array
    trait: Array
    bits: Array
    ts: Array


class Lack(msgspec.Struct, frozen=True):
    """What n people lack: `hot` int64 (n, plan.hot), closed tiles of each; `some` bool (n,): whether it is anything."""

    hot: Array
    closed: list[bytes]
    some: Array


def place(entry_id: bytes) -> int:
    """An entry's place in the log of its partition, as one number."""
    ms, _, nth = entry_id.partition(b"-")
    return int(ms) << 20 | int(nth or 0)


class Lacking:
    """Of one partition. `until`: the last entry that this load reads."""

    def __init__(self, eras: Eras, client: redis.Redis, partition: int, until: bytes) -> None:
        self._eras, self._plan = eras, eras.plan
        began, loads = client.hgetall(keys.eras(partition)), client.hgetall(keys.loads(partition))
        self._until = np.full(eras.today + 1, -1, np.int64)
        for era, id_ in loads.items():
            self._until[int(era)] = place(id_)
        self._began = np.full(eras.today + 1, -1, np.int64)  # of era 0: before everything
        self._logged = self._began.copy()  # what a door of an older vocabulary may have written
        for era in range(eras.today, 0, -1):  # one that never ran here ended as it began
            id_, end = began.get(str(era).encode()), began.get(f"{era}:logged".encode())
            self._began[era] = place(id_) if id_ else self._began[min(era + 1, eras.today)]
            self._logged[era] = max(self._began[era], place(end) if end else -1)
        self._oldest = int(until.partition(b"-")[0]) // self._plan.unit - self._plan.keep
        self._cuts = np.array([eras.cuts(era) for era in range(eras.today + 1)])
        vocabulary = self._plan.vocabulary
        self._scale = np.array([vocabulary.event[c.events[0]].scale if c.value else 1 for c in self._plan.columns])

    def of(self, origin: Array, seen: Seen, told: Told) -> Lack:
        """What people of these origins (n,) lack; the origin of those who have no state is that of today's begun."""
        era, was_loaded = origin // 2, origin % 2 == 1
        late = seen.ts // DAY <= seen.now // DAY - KEEP_DAYS
        brought = was_loaded[seen.person] & (seen.entry <= self._until[era[seen.person]])
        before = ~was_loaded[seen.person] & (seen.entry <= self._began[era[seen.person]])
        ran = np.searchsorted(self._began[1:], seen.entry)
        ran = np.where(brought, np.maximum(ran, era[seen.person]), ran)
        pairs = self._pairs(seen)
        today = self._today(pairs)[seen.code]
        restated = brought & (today >= 0)
        then = np.where(
            brought & (seen.pair < 0), self._then(pairs, seen.names)[era[seen.person], seen.sent], seen.pair
        )
        took = np.where(restated, today, then)
        fresh = (seen.code != UNKNOWN) & (before | (took != today))
        hot = np.zeros((len(origin), self._plan.hot), np.int64)
        self._lasts(hot, seen, ~late)
        made = self._made(seen, np.flatnonzero(~late))
        counted = self._counted(seen, np.flatnonzero(~late & ~before), pairs, (took, ran, restated))
        closed = _difference(len(origin), made, counted)
        some = self._traits(hot, origin, told)
        some[seen.person[fresh]] = True
        some |= np.fromiter(map(bool, closed), bool, len(closed))
        return Lack(hot, closed, some)

    def _pairs(self, seen: Seen) -> list[Pair]:
        """What the door took events for, and whatever today's vocabulary, or one that people were loaded for, knows."""
        today = [(code.event, code.tag) for code in self._plan.vocabulary.codes]
        spelled_then = [(name, None) for era in self._eras.list for name in era.spellings.values()]
        return list(dict.fromkeys([*seen.pairs, *today, *spelled_then]))

    def _today(self, pairs: list[Pair]) -> Array:
        """By code of today: its place in `pairs`; -1 for unknown events."""
        of = np.full(UNKNOWN + 1, -1, np.int64)
        place_of = {pair: i for i, pair in enumerate(pairs)}
        codes = self._plan.vocabulary.codes
        of[: len(codes)] = [place_of[code.event, code.tag] for code in codes]
        return of

    def _then(self, pairs: list[Pair], names: list[str]) -> Array:
        """(eras, names): the place in `pairs` of what a load in that era took an event of that name for, or -1.

        It matters for event types that today's vocabulary dropped, so only where any type counts, whatever its tag.
        """
        place_of = {pair: i for i, pair in enumerate(pairs)}
        known = [[era.spellings.get(spelled(name)) for name in names] for era in self._eras.list]
        return np.array([[place_of[name, None] if name else -1 for name in each] for each in known], np.int64)

    def _made(self, seen: Seen, which: Array) -> Amounts:
        """(person, column and tile, amount) of what today's vocabulary counts."""
        plan = self._plan
        codes = np.minimum(seen.code[which], len(plan.columns_of.lengths) - 1)
        at, column = plan.columns_of.expand(codes)
        of = which[at]
        amount = np.where(plan.is_value[column], seen.value[of], 1)
        return self._keyed(seen, of, column, amount)

    def _counted(self, seen: Seen, which: Array, pairs: list[Pair], of_each: tuple[Array, Array, Array]) -> Amounts:
        """The same of what was counted: took for which pair, in which era, restated or as the door measured it."""
        took, ran, restated = of_each
        known = which[took[which] >= 0]
        at, column = self._columns(pairs).expand(ran[known] * len(pairs) + took[known])
        of = known[at]
        value = np.where(
            restated[of], seen.value[of], np.rint(seen.measured[of] * self._scale[column]).astype(np.int64)
        )
        tile = seen.ts[of] // self._plan.unit[column]
        whole = tile > self._cuts[ran[of], column]
        of, column, value = of[whole], column[whole], value[whole]
        return self._keyed(seen, of, column, np.where(self._plan.is_value[column], value, 1))

    def _columns(self, pairs: list[Pair]) -> Ragged:
        """Today's columns to which each era added a pair of event type and tag: era x pairs lists."""
        lists = []
        for era in self._eras.list:
            kept = [era.counted.columns.get(slot) for slot in self._plan.column_slots]
            both = list(zip(kept, self._plan.columns, strict=True))
            for event, tag in pairs:
                lists.append([i for i, (k, c) in enumerate(both) if k and event in k.events and c.tag in (None, tag)])
        return Ragged(lists)

    def _keyed(self, seen: Seen, of: Array, column: Array, amount: Array) -> Amounts:
        tile = seen.ts[of] // self._plan.unit[column]
        kept = tile > self._oldest[column]
        return seen.person[of[kept]], (column[kept] << 20) | tile[kept], amount[kept]

    def _lasts(self, hot: Array, seen: Seen, on_time: Array) -> None:
        plan, which = self._plan, np.flatnonzero(on_time)
        at, last = plan.lasts_of.expand(np.minimum(seen.code[which], len(plan.lasts_of.lengths) - 1))
        of = which[at]
        np.maximum.at(hot, (seen.person[of], plan.last + last), seen.ts[of])

    def _traits(self, hot: Array, origin: Array, told: Told) -> Array:
        """Traits that were left out since people's origins, and all of those who were told some before they began.

        Returns who has any.
        """
        plan, eras = self._plan, self._eras
        numbers = range(len(plan.vocabulary.traits))
        slots = [plan.trait_slot(i) for i in numbers]
        left_out = np.array([[eras.without(era, slot) for slot in slots] for era in range(eras.today + 1)], bool)
        early = np.zeros(len(origin), bool)
        early[told.person[told.entry <= self._logged[origin[told.person] // 2]]] = True
        early &= origin % 2 == 0
        due = early[told.person] | left_out[origin[told.person] // 2, told.trait]
        table = Table(plan, len(origin))
        table.apply_traits(told.person[due], told.trait[due], told.bits[due], told.ts[due])
        part = slice(plan.trait, plan.episode)
        hot[:, part] = table.values[:, part]
        return np.asarray(hot[:, part].any(axis=1))


def _difference(people: int, more: Amounts, less: Amounts) -> list[bytes]:
    """Closed tiles of each person: (person, column << 20 | tile, amount) of the one, less those of the other."""
    person, key, amount = (np.concatenate(x) for x in zip(more, (*less[:2], -less[2]), strict=True))
    order = np.argsort((person << 28) | key, kind="stable")
    person, key, amount = person[order], key[order], amount[order]
    starts = np.flatnonzero(np.diff((person << 28) | key, prepend=-1))
    sums = np.add.reduceat(amount, starts) if len(starts) else amount
    return tiles.write(key[starts], sums, person[starts], people)
