"""What a million active people take: in the store, features and state together, and in the engine.

Each has a month of history, 10 events on average (Zipf 0.5), read by an engine that keeps as many of them as it does
by default; then 300 k more come, and it must not grow.
"""

from __future__ import annotations

from feature_repo.finish import DAY
from feature_repo.vocabulary import load
from tests.bench.engine import MIDNIGHT, USERS, resident_mb, running, said, store_for_bench, trim, wait_for
from tests.bench.filled import Filler, zipf
from tests.bench.options import Options
from tests.bench.result import Result, figure

EVENTS_EACH = 10
MORE = 300_000
CHUNK = 1_000_000


def run(options: Options) -> Result:
    with store_for_bench() as (settings, _, client, store):
        empty = float(client.info("memory")["used_memory"])
        filler = Filler(client, store, load(), USERS + MORE)
        with running(settings, client) as engine:
            total = 0
            for day in range(EVENTS_EACH):
                who = filler.rng.permutation(USERS) if not day else zipf(USERS, 0.5, CHUNK, filler.rng)
                start = MIDNIGHT + 3 * day * DAY
                filler.fill(who, start, start + DAY)
                total += len(who)
                wait_for(client, store, total)
                trim(client, store)
            kept, at_a_million = said(client)["users_cached"], resident_mb(engine.pid)
            used = float(client.info("memory")["used_memory"]) - empty
            ids = float(sum(client.memory_usage(key) or 0 for key in client.scan_iter(b"*:seen:*")))
            filler.fill(USERS + filler.rng.permutation(MORE), start + DAY, start + 2 * DAY)
            wait_for(client, store, total + MORE)
            beyond = resident_mb(engine.pid)
    return Result(
        {
            "redis_bytes_per_user": figure([(used - ids) / USERS], "B"),
            "message_id_bytes": figure([ids / total], "B"),
            "engine_mb": figure([at_a_million], "MB"),
            "engine_mb_beyond": figure([beyond], "MB"),
            "users_cached": figure([kept], "people"),
        }
    )
