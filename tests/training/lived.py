"""A store that has lived: calls through log, engine and lake, with everybody's rows kept as served."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import redis

from feature_repo import keys
from feature_repo.declare import Value
from feature_repo.settings import Settings
from feature_repo.traits import bits
from feature_repo.vocabulary import PUSHED, SILENT
from flows import push
from flows.engine import Engine
from flows.entry import Draft, Kind
from flows.external import ExternalView
from flows.lake import Lake
from flows.lake_read import LakeReader
from flows.plan import Plan
from flows.push import Push
from flows.state import identity
from flows.store import create, dial
from tests.flows import streams_made as made
from tests.flows.both_sides import VOCABULARY
from tests.flows.streams_made import START
from tests.posted import Posted, random_calls
from training.consistency import Consistency, Report

PLAN = Plan(VOCABULARY)


class Run:
    """Calls through log and engine, with everybody's rows on their way to the lake."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self.client = client
        self.settings = msgspec.structs.replace(settings, lake_features=1.0, dedup_hours=48, partitions=2)
        self.store = create(client, self.settings)
        self.door = Posted(client, self.store, VOCABULARY)
        self.engine = self.started()

    def started(self) -> Engine:
        return made.engine(VOCABULARY, self.settings, self.store, self.client)

    def push(self, view: str, id_: str, at: int, values: dict[str, Value | None]) -> None:
        """A row of an external view, as the door stores it."""
        declared = VOCABULARY.views[view]
        row = Push(view, id_, push.moment(at * 1000), values)
        name = f"org/{push.identity_of(VOCABULARY, declared, id_)}".encode()
        uid, draft, person = identity(self.store, name), Draft(), declared.entity == VOCABULARY.entity
        draft.add(uid, name, uid ^ at, at, PUSHED if person else SILENT, raw=push.encode(row))
        for trait, value in push.traits(VOCABULARY, row).items():
            number = VOCABULARY.trait_id[trait]
            draft.traits.append((0, number, bits(VOCABULARY.traits[number], value)))
        kind, p = Kind.EVENTS if person else Kind.PUSH, uid % self.store.partitions
        fields: Any = {"e": draft.encode(VOCABULARY.fingerprint, kind=kind), "r": draft.encode_raw()}
        self.client.xadd(keys.log(p), fields, id=f"{at}-*")
        self.client.hincrby(keys.counts(p), "accepted", 1)
        columns = [[values.get(field.name)] for field in declared.fields]
        written = ExternalView(declared, VOCABULARY.entity_of(declared)).write(
            [f"org/{id_}".encode()], [at * 1000], columns
        )
        connection = dial(self.settings)
        connection.call(written)
        connection.close()

    def restart(self) -> None:
        made.kill(self.engine)
        self.engine = self.started()

    def flush_lake(self) -> None:
        lake = Lake(self.settings, self.client, self.store, lambda: 0.0)
        lake.recover()
        while (batches := lake.read()) and batches[0]:
            lake.take(batches)
        lake.flush()
        lake.take_served()
        lake.dates.work(busy=False)
        lake.close()

    def compared(self, sample: int = 100_000, removed_until: str = "") -> Report:
        reader = LakeReader(self.settings.lake, VOCABULARY, self.store, self.client)
        hours = self.settings.dedup_hours
        return Consistency(reader, PLAN, self.store, hours, removed_until).compare(sample, seed=1)


def lived(run: Run, seed: int, n: int = 400, flushes: int = 4) -> None:
    """A random life: pieces of any size, ticks, kills of the engine, flushes of the lake."""
    rng = np.random.default_rng(seed)
    calls = random_calls(VOCABULARY, rng, n, 12, START)
    for k, (now, call) in enumerate(calls):
        run.door.post(now, call)
        if rng.random() < 0.3:
            made.step(run.engine, write=bool(rng.random() < 0.8))
        if rng.random() < 0.02:
            run.restart()
        if rng.random() < 0.03:
            made.pass_time(run.client, run.store, now)
        if k % (n // flushes) == 0:
            run.flush_lake()
    made.drain(run.engine)
