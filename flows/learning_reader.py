"""One round of the learner: what its sources have, in the order, with the examples that it is about."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any

import msgspec

from flows.lake_read import LakeReader
from flows.learning_items import ENDLESS, Bound, Happened, Item, Position, Read, Seen, Source, Told, Unreadable, merged
from flows.learning_items import bound as bound_of
from flows.learning_joins import DUE_RANK, World
from flows.learning_known import Known
from flows.learning_lake import Place, Sampling, answered
from flows.learning_sources import Alerts
from flows.learning_store import LearningStore, Positions
from flows.learning_versions import DAY

MOST = 2_000  # items of a source at once
HOLD_MS = 2_000  # until what was told at one moment is read of all sources; by the wall's time
AHEAD_MS = 60_000  # a clock that is further ahead of ours is wrong: what it says is taken for said now
RETRY_S = 2.0  # until the lake is asked again for a prediction that it did not have
PATIENCE_MS = 600_000  # until it is given up
WAITING = 20_000  # outcomes of predictions that wait at most
FIRST = -1  # the rank of what has to be known before what refers to it
_told = msgspec.msgpack.Decoder(Told).decode


class Round(msgspec.Struct):
    """`wait`: outcomes of predictions that the lake does not have yet; `found`: those that wait no more."""

    items: list[Item]
    world: World
    end: Bound
    positions: Positions
    wait: list[dict[str, Any]] = []
    found: list[int] = []


class Reader:
    """`positions`: up to where all is committed. `now`: ms, the log's time; `wall`: whether that is the wall's."""

    def __init__(
        self,
        sources: Sequence[Source],
        store: LearningStore,
        lake: LakeReader,
        sampling: Sampling,
        known: Known,
        now: Callable[[], int],
        *,
        wall: bool,
    ) -> None:
        self.positions: Positions = {}
        self.most = MOST
        self._sources, self._store = sources, store
        self._alerts = next(source for source in sources if isinstance(source, Alerts))
        self._lake, self._sampling, self._known = lake, sampling, known
        self._wanted = False  # that people are looked for
        self._now, self._wall = now, wall
        self._waiting: dict[int, tuple[int, Told]] = {}
        self._retry = 0.0

    def begin(self) -> None:
        """Goes on from what is committed. Raises what the store does."""
        self.positions = self._store.take_over()
        self._waiting = {seq: (since, _told(told)) for seq, since, told in self._store.waiting()}

    def round(self) -> Round | None:
        """What is to be learned next; None: nothing has come."""
        now = self._now()
        self._sample(now)
        reads = [self._in_time(source.read(self.positions.get(source.name, Position()), self.most), now)
                 for source in self._sources]  # fmt: skip
        ended, due = self._store.due(now, self.most)
        reads.append(Read(ended, len(ended) == self.most))
        end = min(bound_of(reads), (now - HOLD_MS, DUE_RANK) if self._wall else ENDLESS)
        known = self._known.bound(dict(zip(self._names.values(), reads, strict=False)))
        self._wanted, end = known < end, min(known, end)
        items, positions = merged(reads, end), dict(self.positions)
        for item in items:
            if item.place:
                positions[self._names[item.rank]] = Position(item.place, item.time)
        made = Round(items, World(due), min(end, (now, DUE_RANK)), positions)
        self._meet(made)
        return made if made.items or made.found or made.positions != self.positions else None

    @property
    def _names(self) -> dict[int, str]:
        return {rank: source.name for rank, source in enumerate(self._sources)}

    def committed(self, made: Round) -> None:
        """What was read need not be read again."""
        self.positions = made.positions
        for seq in made.found:
            self._waiting.pop(seq, None)
        for row in made.wait:
            self._waiting[row["seq"]] = (row["since"], _told(row["told"]))

    def _sample(self, now: int) -> None:
        places = {int(s.name.partition(":")[2]): s.name for s in self._sources if s.name.startswith("samples:")}
        start = max(now - DAY, 0) * 1000  # a learner that begins asks nobody's whole history
        if places:
            told = {p: self.positions.get(name, Position()).place for p, name in places.items()}
            after = {p: Place.told(place or f"{start}") for p, place in told.items()}
            if self._sampling.is_due(after, soon=self._wanted):
                self._known.mark()
                self._sampling.look(after, self.most)
            self._known.settle()

    def _in_time(self, read: Read, now: int) -> Read:
        if not self._wall or not read.items or read.items[-1].time <= now + AHEAD_MS:
            return read
        items, late = list[Item](), now - HOLD_MS
        for item in read.items:  # in their order: what is passed over would never be read
            ahead = item.time > now + AHEAD_MS
            items.append(msgspec.structs.replace(item, time=late) if ahead else item)
            late = max(late, items[-1].time)
        return Read(items, read.more)

    # -- the examples

    def _meet(self, made: Round) -> None:
        """What the items refer to."""
        whats = list(chain.from_iterable(item.what for item in made.items))
        told = [what for what in whats if isinstance(what, Told)]
        ids = {what.id for what in told} | {what.example.id for what in whats if isinstance(what, Seen)}
        people = {_whose(what.person) for what in whats if isinstance(what, Happened)}
        for row in (*self._store.rows(sorted(ids)), *self._store.of_people(sorted(people))):
            made.world.add(row)
        lacking = [one for one in told if one.id not in made.world.rows]
        self._alerts_of(made, [one for one in lacking if one.source == "alert"])
        self._predictions_of(made, {one.id for one in lacking if one.source == "prediction"})

    def _alerts_of(self, made: Round, told: list[Told]) -> None:
        """An outcome may be read before its alert: the example begins with it then."""
        if not told:
            return
        seen = {one.example.id: one for one in self._alerts.named([one.id for one in told])}
        items = list[Item]()
        for item in made.items:
            first = tuple(seen[one.id] for one in item.what if isinstance(one, Told) and one.id in seen)
            items += [Item(item.time, FIRST, "", first), item] if first else [item]
        made.items = items

    def _predictions_of(self, made: Round, lacking: set[str]) -> None:
        """Those that the lake has not wait; those that waited are asked for again."""
        now, told = time.time_ns() // 1_000_000, dict(_of_predictions(made.items))
        again = self._again({one.id for one in told.values()})
        behind = {one.id for _, one in self._waiting.values()}  # what is told later is learned later
        new = {seq: one for seq, one in told.items() if one.id in lacking or one.id in behind}
        asked = [*new.values(), *again.values()]
        if not asked:
            return
        since = min(one.scored_at for one in asked) - DAY if self._wall else None
        rows = answered(self._lake, self._store.versions, asked, since)
        for row in self._store.rows(sorted({one.id for one in again.values()})):
            rows[row.id] = row
        for row in rows.values():
            made.world.add(row)
        room = WAITING - len(self._waiting)
        wait = [seq for seq, one in new.items() if one.id not in rows][:room]
        made.wait = [{"seq": seq, "since": now, "told": msgspec.msgpack.encode(new[seq])} for seq in wait]
        gone = {seq for seq, one in new.items() if one.id not in rows} - set(wait)
        made.items = [_without(item, set(wait), gone) for item in made.items]
        self._take_up(made, again, rows, now)

    def _again(self, told: set[str]) -> dict[int, Told]:
        """What waits for something told now; from time to time more of what waits."""
        waiting = sorted(self._waiting.items())
        most = 0
        if waiting and time.monotonic() > self._retry:
            most, self._retry = self.most, time.monotonic() + RETRY_S
        return {seq: one for n, (seq, (_, one)) in enumerate(waiting) if n < most or one.id in told}

    def _take_up(self, made: Round, again: dict[int, Told], rows: dict[str, Any], now: int) -> None:
        first = []
        for seq, one in again.items():
            if one.id in rows:
                first.append(Item(one.recorded_at, FIRST, "", (one,)))
            elif now - self._waiting[seq][0] > PATIENCE_MS:
                first.append(Item(one.recorded_at, FIRST, "", (Unreadable("prediction", one.id, "no features"),)))
            else:
                continue
            made.found.append(seq)
        made.items = [*first, *made.items]


def _whose(person: str) -> tuple[str, str]:
    organisation, _, user = person.partition("/")
    return organisation, user


def _of_predictions(items: list[Item]) -> Iterator[tuple[int, Told]]:
    """With their numbers."""
    for item in items:
        for one in item.what:
            if isinstance(one, Told) and one.source == "prediction":
                yield int(item.place), one


def _without(item: Item, wait: set[int], gone: set[int]) -> Item:
    """An outcome of a prediction that waits is none of this round; of one that cannot wait, it is set aside."""
    one = item.what[0] if len(item.what) == 1 else None
    if not isinstance(one, Told) or one.source != "prediction":
        return item
    seq = int(item.place)
    if seq in wait:
        return msgspec.structs.replace(item, what=())
    return msgspec.structs.replace(item, what=(Unreadable("prediction", one.id, "no room"),)) if seq in gone else item
