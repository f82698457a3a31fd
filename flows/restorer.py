"""An engine over a log that is filled again with what it once held: nothing fires, nothing is passed on twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import msgspec
import numpy as np
import redis

from feature_repo import keys
from feature_repo.declare import Array
from feature_repo.settings import Settings
from feature_repo.vocabulary import Vocabulary
from flows import episodes
from flows.engine import Engine
from flows.partition import LEASE_MS, entry_id
from flows.resp import Connection
from flows.scoring import Evaluated
from flows.store import Store
from onnx_models.session import Model

OWNER = "rebuild"
PEOPLE = 1_000  # whose episodes are restored at once


class Restorer(Engine):
    """All partitions of a store that is being rebuilt, driven by whoever fills the log."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        settings: Settings,
        store: Store,
        client: redis.Redis,
        dial: Callable[[], Connection],
        models: dict[str, Model],
    ) -> None:
        silent = msgspec.structs.replace(settings, lake_features=0.0)  # what was served is in the lake
        super().__init__(vocabulary, silent, store, client, dial, models, owner=OWNER)
        self._transactions.passes_on = False
        self._renewed = time.monotonic()

    def catch_up(self, ends: Mapping[int, bytes]) -> None:
        """Count up to these entries of the partitions."""
        while any(entry_id(self.counting.position[p]) < entry_id(end) for p, end in ends.items()):
            self._turn()

    def settle(self) -> None:
        """Write what was counted, and drop from the log what is written."""
        self.flush()
        for p, partition in self.partitions.items():
            self.client.xtrim(keys.log(p), minid=partition.position.decode(), approximate=False)

    def reopen(self, opened: Mapping[int, Mapping[str, int]]) -> None:
        """By identity and alert type, when an episode last opened (ms): it is open unless the score says it is over."""
        for p in self.partitions:
            mine = [uid for uid in opened if uid % self.store.partitions == p]
            for low in range(0, len(mine), PEOPLE):
                self._reopen(p, {uid: opened[uid] for uid in mine[low : low + PEOPLE]})
                self.settle()

    def _turn(self) -> None:
        if time.monotonic() - self._renewed > LEASE_MS / 4000:
            for partition in self.partitions.values():
                partition.renew()
            self._renewed = time.monotonic()
        for due in self.conflate(self.count(self.read())):
            self.write(self.evaluate(due))

    def _reopen(self, p: int, opened: Mapping[int, Mapping[str, int]]) -> None:
        uids = np.array(list(opened), np.uint64)
        self.counting.make_room(uids)
        rows = self.people.known(uids, p)
        if not len(rows):
            return
        whose = self.people.table.index.keys[rows].tolist()
        for i, service in enumerate(self.plan.alerts):
            at = [
                (row, opened[uid][service.alert or ""])
                for row, uid in zip(rows, whose, strict=True)
                if service.alert in opened[uid]
            ]
            if at:
                self._stand(i, *np.array(at, np.int64).T)
        self.counting.of(p)
        self.people.mark(rows, True)

    def _stand(self, i: int, rows: Array, ms: Array) -> None:
        """Episodes of the i-th alert type."""
        values, (opened, open_) = self.people.table.values, self._scorer.slots(i)
        name = self.plan.alerts[i].name
        values[rows, opened], values[rows, open_] = ms, 1
        if name in self.models:
            self.people.muted[rows] = False  # so that they are scored
            evaluated = Evaluated([], rows, self.people.evaluate(rows))
            self._scorer.score(evaluated)
            over = episodes.closes(evaluated.scores[name][1], self.models[name].threshold, values[rows, open_])
            values[rows[over], open_] = 0
