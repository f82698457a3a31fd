"""What each vocabulary that ran in a store counted, so that nobody takes a short history for a whole one.

A person's row says since which era nothing of theirs was left out (`origin`). A feature made of what an era since then
did not count is null, until its window has passed, or `telltale backfill --load` has brought the rest from the lake.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import redis

from feature_repo import keys
from feature_repo.declare import Aggregate, Array, Last, Node, TraitChanged, TraitValue
from feature_repo.vocabulary import nodes
from flows.plan import LACKING, Counted, Plan

_NEVER = np.iinfo(np.int64).max
_LATER = 1 << 53  # ms: an era that no engine has begun is yet to come


class Era(msgspec.Struct, frozen=True):
    """What was counted from when on: `began` is the log's time (ms) of the last entry before it.

    `spellings`: by which names it knew event types, as in `Vocabulary.spellings`.
    """

    began: int
    counted: Counted
    spellings: dict[str, str]


def begun(era: int) -> int:
    """Origin of somebody of whom nothing before that era was counted, because there was nothing."""
    return 2 * era


def loaded(era: int) -> int:
    """Origin of somebody of whom the lake brought what came before that era."""
    return 2 * era + 1


def code(origin: Any) -> Any:
    """Origins (int or array) without the number of absorbed people."""
    return origin & ~LACKING


class Eras:
    """The eras of a store, oldest first. `today` is the number of this plan's, and exists once it was entered."""

    def __init__(self, plan: Plan, client: redis.Redis) -> None:
        self.plan = plan
        self._client = client
        self._learn()

    def _learn(self) -> None:
        known = _read(self._client)
        self.entered = _is_latest(known, self.plan)
        self.list = known if self.entered else [*known, Era(_LATER, self.plan.counted, self.plan.vocabulary.spellings)]
        self.today = len(self.list) - 1
        self._until: dict[int, Array] = {}

    def enter(self, positions: Mapping[int, bytes]) -> None:
        """Begin this plan's era, unless it is the latest, in partitions that stand at these positions and are ours."""
        began = max((int(position.partition(b"-")[0]) for position in positions.values()), default=0)
        fresh = msgspec.json.encode(Era(began, self.plan.counted, self.plan.vocabulary.spellings))
        self._client.transaction(lambda pipe: self._append(pipe, fresh, positions), keys.ERAS)
        self._learn()

    def _append(self, pipe: Any, fresh: bytes, positions: Mapping[int, bytes]) -> None:
        ends = {partition: pipe.xrevrange(keys.log(partition), count=1) for partition in positions}
        known = _read(pipe)
        same = _is_latest(known, self.plan)
        pipe.multi()
        if not same:
            pipe.rpush(keys.ERAS, fresh)
        for partition, position in positions.items():
            era, end = len(known) - same, ends[partition]
            pipe.hsetnx(keys.eras(partition), str(era), position)
            pipe.hsetnx(keys.eras(partition), f"{era}:logged", end[0][0] if end else position)

    def cuts(self, era: int) -> Array:
        """(columns,): the last tile of each that is not whole in rows written in that era; -1 where all are."""
        out = np.full(len(self.plan.columns), -1, np.int64)
        for before, after in zip(self.list[era:], self.list[era + 1 :], strict=False):
            for i, slot in enumerate(self.plan.column_slots):
                had, has = before.counted.keep(slot), after.counted.keep(slot)
                if has > had:
                    out[i] = max(out[i], after.began // self.plan.unit[i] - had)
        return out

    def lacks(self, origin: int) -> bool:
        """Whether something that is counted today was left out since that origin, however long ago."""
        era = int(code(origin)) // 2
        return era < self.today and bool((self._right_from(era) > self.list[-1].began).any())

    def short(self) -> list[str]:
        """Features that are null, for a while or until a load, for people of the era before."""
        if not self.today:
            return []
        whole = self._right_from(self.today - 1)
        return [
            f.name
            for f, ms in zip(self.plan.vocabulary.features, whole.tolist(), strict=True)
            if ms > self.list[-1].began
        ]

    def change(self, origin: int) -> int:
        """What an identified anonymous person has to pass on to their user in the bits of LACKING: +1, -1 or 0 lack.

        The same bits of their own origin say whether the user was told.
        """
        told, lacks = bool(origin & LACKING), self.lacks(origin)
        return (int(lacks) - int(told)) * -LACKING

    def without(self, era: int, slot: str) -> bool:
        """Whether a last moment or a trait (as in `Counted.others`) was left out since that era."""
        return any(slot not in each.counted.others for each in self.list[era:])

    def hide(self, rows: Array, features: Array) -> None:
        """Make NaN, in place, what is not whole. rows int64 (n, plan.today or more), features float64 (n, features)."""
        origin = rows[:, self.plan.origin]
        stale = np.flatnonzero((origin | 1) != loaded(self.today))
        if not len(stale):
            return
        era = np.where(origin[stale] & LACKING, 0, code(origin[stale]) // 2)
        for each in np.unique(era).tolist():
            at = stale[era == each]
            short = rows[at, :1] < self._right_from(each)
            features[at] = np.where(short, np.nan, features[at])

    def _right_from(self, era: int) -> Array:
        """By feature: the log's time (ms) from which it is right for people of that origin; 0 = always."""
        if era not in self._until:
            vocabulary, cuts = self.plan.vocabulary, self.cuts(era)
            parts = [[self._whole_from(n, era, cuts) for n in nodes(f.of, vocabulary)] for f in vocabulary.features]
            self._until[era] = np.array([max(each) for each in parts], np.int64)
        return self._until[era]

    def _whole_from(self, node: Node, era: int, cuts: Array) -> int:
        plan = self.plan
        if isinstance(node, Aggregate):
            column = plan.column(node)
            cut = int(cuts[column])
            return (cut + node.length) * int(plan.unit[column]) if cut >= 0 else 0
        if isinstance(node, Last | TraitValue | TraitChanged):
            return _NEVER if self.without(era, plan.other(node)) else 0
        return 0  # made of the nodes before it


def _is_latest(known: list[Era], plan: Plan) -> bool:
    return bool(known) and known[-1].counted == plan.counted


def _read(client: Any) -> list[Era]:
    return [msgspec.json.decode(each, type=Era) for each in client.lrange(keys.ERAS, 0, -1)]
