"""What an engine does beside counting, each second, on a thread of its own: ticks, trimming, gauges."""

from __future__ import annotations

import logging
import threading
from typing import cast

import redis

from feature_repo import keys
from flows import heap, outcome_events, served
from flows.engine import Engine
from flows.entry import tick
from flows.partition import LEASE_MS, entry_id
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
        self._tick()
        self._report()
        if rounds % TRIM_EVERY == 0:
            self._trim()
            heap.give_back()

    def _now(self) -> tuple[int, bool]:
        """The log's time, ms: the store's clock, or the latest entry where the log brings its own. If it is history."""
        counting = self._engine.counting
        if self._engine.store.clock == "log":
            return max([(counting.clock_ms, counting.history), *self._others()])
        seconds, micros = self._client.time()
        return int(seconds) * 1000 + int(micros) // 1000, counting.history

    def _others(self) -> list[tuple[int, bool]]:
        """The same as the other engines say it, whose partitions may have what ours do not."""
        found = cast(list[bytes], self._client.hkeys(keys.ENGINES))
        with self._client.pipeline(transaction=False) as pipe:
            for name in found:
                pipe.hmget(keys.gauges(name.decode()), "clock_ms", "history")
            told = pipe.execute()
        return [(int(float(clock)), bool(float(history))) for clock, history in told if clock]

    def _tick(self) -> None:
        """Append a tick to each partition for the minutes that have passed, at most a day of them."""
        now_ms, history = self._now()
        minute = now_ms // 60_000
        for p, ticked in self._ticked.items():
            first = max(ticked + 1, minute - DAY_MINUTES + 1) if ticked else minute
            for low in range(first, minute + 1, TICK_MINUTES):
                entry = tick(low, min(low + TICK_MINUTES - 1, minute), history=history)
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
            if dropped := outcome_events.bound(self._client, p, outcome_events.MOST // self._engine.store.partitions):
                _log.warning("partition %d: %d outcome events dropped: the learner did not come", p, dropped)

    def _report(self) -> None:
        engine = self._engine
        people, seen = engine.people, engine.counting.seen
        horizon = engine.settings.dedup_hours * 60
        minute = self._now()[0] // 60_000
        since = max(seen.shortened_to, minute - horizon)
        gauges: dict[str, float] = {
            "clock_ms": float(engine.counting.clock_ms),
            "history": float(engine.counting.history),
            "partitions": float(len(engine.partitions)),
            "events": float(engine.counting.events),
            "users_written": float(engine.written_users),
            "users_cached": float(len(people.table)),
            "cache_evicted": float(people.evicted),
            "dedup_ids": float(len(seen)),
            "oldest_unflushed_ms": engine.oldest_unflushed_ms(),
        }
        gauges |= {f"unflushed_ms@{p}": ms for p, ms in engine.unflushed_ms().items()}
        gauges |= {f"dedup_horizon_hours@{p}": (minute - since) / 60 for p in engine.partitions}
        gauges |= people.meters.by_field()
        key = keys.gauges(engine.owner)
        with self._client.pipeline(transaction=True) as pipe:
            pipe.delete(key)
            pipe.hset(key, mapping=gauges)
            pipe.pexpire(key, LEASE_MS)
            pipe.execute()
