"""A store, the engines over it, and an oracle that was told the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import redis

from feature_repo.settings import Settings
from flows.engine import Engine
from flows.plan import Plan
from flows.store import create
from flows.windows import Table
from tests.flows import streams_made as made
from tests.flows.both_sides import VOCABULARY, apply, receive, uid_of
from tests.flows.oracle import Oracle, unlike
from tests.flows.streams_made import Event

PLAN = Plan(VOCABULARY)
ACCESS = VOCABULARY.code["document_access", None]


class Ground:
    """A store, the engines over it, and what an oracle makes of all that was posted."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self.client, self.settings = client, settings
        self.store = create(client, settings)
        self.oracle = Oracle()
        self.events: list[Event] = []  # those that count
        self.engines: list[Engine] = []

    def engine(self, **more: Any) -> Engine:
        started = made.engine(VOCABULARY, self.settings, self.store, self.client, **more)
        self.engines.append(started)
        return started

    def post(self, *events: Event, history: bool = False) -> None:
        for event in made.post(self.client, self.store, VOCABULARY, list(events), history=history):
            if receive(self.oracle, event) in {"processed", "late"}:
                self.events.append(event)

    def pass_time(self, now: int, minutes: int = 1440) -> None:
        made.pass_time(self.client, self.store, now, minutes)

    def features(self, user: str) -> dict[str, float | None]:
        return made.features(self.client, VOCABULARY, user)

    def counts(self) -> dict[str, int]:
        return made.counts(self.client, self.store)

    def wrong(self) -> dict[str, Any]:
        """Whose features are not the oracle's, as of when they were written: user -> feature -> (found, expected)."""
        found = {}
        for user, person in self.oracle.people.items():
            at = made.feature_time(self.client, VOCABULARY, user)
            assert at >= person.now, f"{user} was last written as of {at}, happened {person.now}"
            person.pass_time(at)
            if off := unlike(self.features(user), person.features()):
                found[user] = off
        return found

    def offline(self) -> dict[str, bytes]:
        """Every user's features as the window code alone computes them, all events in one batch."""
        table = Table(PLAN, len(self.oracle.people) + 1)
        apply(table, self.events)
        users = {e.user for e in self.events}
        return {user: table.evaluate(self._at_last_write(table, user))[0].tobytes() for user in users}

    def _at_last_write(self, table: Table, user: str) -> Any:
        row = table.rows(np.array([uid_of(user)], np.uint64))
        table.touch(row, np.array([made.feature_time(self.client, VOCABULARY, user)]))
        return row

    def online(self) -> dict[str, bytes]:
        return {e.user: np.array(list(self.features(e.user).values()), float).tobytes() for e in self.events}


def event(user: str, now: int, n: int, code: int = ACCESS, ts: int | None = None, value: int = 0) -> Event:
    return Event(user, code, value, now if ts is None else ts, now, n)


def live(ground: Ground, rng: np.random.Generator, engine: Engine, **more: Any) -> Engine:
    """Something that may happen to an engine between two requests; returns the one that goes on."""
    match rng.choice(["wait", "turn", "turn", "count and die", "write and die", "write and stall", "restart"]):
        case "turn":
            for _ in range(rng.integers(1, 4)):
                made.step(engine)
            return engine
        case "count and die":
            made.step(engine, write=False)
            made.kill(engine)
        case "write and die":
            made.step(engine)
            made.kill(engine)
        case "write and stall":  # its writes may still arrive, late
            made.step(engine)
        case "restart":
            engine.close()
        case _:
            return engine
    return ground.engine(**more)
