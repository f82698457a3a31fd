"""What an engine does beside counting, each second, on a thread of its own: leases, ticks, trimming, gauges."""

from __future__ import annotations

import logging
import threading
import time

import redis

from feature_repo import keys
from flows import heap, outcome_events, served
from flows.engine import Engine
from flows.entry import tick
from flows.partition import entry_id
from flows.resp import Connection, StoreError
from flows.streams import append

_log = logging.getLogger(__name__)
EVERY_S = 1.0
TICK_MINUTES = 60  # slices that one tick names at most
DAY_MINUTES = 1440
TRIM_EVERY = 10  # rounds


class Housekeeping:
    """Runs until `stop`; `failed` holds the error that ended it."""

    def __init__(self, engine: Engine, client: redis.Redis, connection: Connection) -> None:
        self.failed: StoreError | None = None
        self._engine, self._client, self._connection = engine, client, connection
        self._ticked = {p: int(client.get(keys.tick(p)) or 0) for p in engine.partitions}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(5)

    def _run(self) -> None:
        rounds = 0
        pause = EVERY_S if self._engine.store.clock == "wall" else EVERY_S / 4
        while not self._stopping.wait(pause):
            try:
                self._round(rounds)
            except StoreError as error:
                self.failed = error
                return
            except redis.RedisError as error:
                self.failed = StoreError(str(error))
                return
            rounds += 1

    def _round(self, rounds: int) -> None:
        for partition in self._engine.partitions.values():
            partition.renew()
        self._tick()
        self._report()
        if rounds % TRIM_EVERY == 0:
            self._trim()
            heap.give_back()

    def _now(self) -> int:
        """The log's time, ms: the store's clock, or the latest entry where the log brings its own."""
        if self._engine.store.clock == "log":
            return self._engine.counting.clock_ms
        seconds, micros = self._client.time()
        return int(seconds) * 1000 + int(micros) // 1000

    def _tick(self) -> None:
        """Append a tick to each partition for the minutes that have passed, at most a day of them."""
        now_ms = self._now()
        minute = now_ms // 60_000
        for p, ticked in self._ticked.items():
            first = max(ticked + 1, minute - DAY_MINUTES + 1) if ticked else minute
            for low in range(first, minute + 1, TICK_MINUTES):
                entry = tick(low, min(low + TICK_MINUTES - 1, minute), history=self._engine.counting.history)
                self._connection.call(append(self._engine.store.clock, p, now_ms, "e", entry))
            if minute:
                self._ticked[p] = minute

    def _trim(self) -> None:
        """Drop what every consumer has: entries before the engine's position and the lake's.

        Served features wait for the lake as long as there is room for them.
        """
        most = self._engine.settings.lake_features_mb * 1_000_000 // self._engine.store.partitions
        for p in self._engine.partitions:
            # The engine itself hears of its last write with the next: in a full store, which takes nothing, never.
            positions = self._client.mget(keys.position(p), keys.lake_position(p))
            if None not in positions:
                oldest = min(map(entry_id, positions))
                self._client.xtrim(keys.log(p), minid=f"{oldest.ms}-{oldest.seq}", approximate=False)
            if dropped := served.bound(self._client, p, most):
                _log.warning("partition %d: %d rows of served features dropped: the lake did not come", p, dropped)
            if dropped := outcome_events.bound(self._client, p, outcome_events.MOST // len(self._engine.partitions)):
                _log.warning("partition %d: %d outcome events dropped: the learner did not come", p, dropped)

    def _report(self) -> None:
        engine = self._engine
        people, seen = engine.people, engine.counting.seen
        horizon = engine.settings.dedup_hours * 60
        since = max(seen.shortened_to, self._now() // 60_000 - horizon)
        gauges: dict[str, float] = {
            "alive_at": time.time(),
            "clock_ms": float(engine.counting.clock_ms),
            "events": float(engine.counting.events),
            "users_written": float(engine.written_users),
            "users_cached": float(len(people.table)),
            "cache_evicted": float(people.evicted),
            "dedup_ids": float(len(seen)),
            "oldest_unflushed_ms": engine.oldest_unflushed_ms(),
        }
        gauges |= {f"unflushed_ms@{p}": ms for p, ms in engine.unflushed_ms().items()}
        gauges |= {f"dedup_horizon_hours@{p}": (self._now() // 60_000 - since) / 60 for p in engine.partitions}
        gauges |= people.meters.by_field()
        self._client.hset(keys.GAUGES, mapping=gauges)
