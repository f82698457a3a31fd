"""Whether one user who makes a tenth of all events delays the others: freshness with this user and without, in turn.

The load of `freshness`: 5,000 events/s in batches of 50 through the public door, 500 a second of the hot user. Probes
post one event and ask the store until its feature shows it: of users in the other partitions, and of users in the hot
user's own (`beside`). `ratio_p99`: the others' p99 with the hot user over the one without; 1 is undisturbed.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial

import msgspec
import redis

from flows.state import identity
from flows.store import Store, open_store
from tests.bench.freshness import BATCH, RATE, at, everything, feature_ms
from tests.bench.load import HOT
from tests.bench.options import Options
from tests.bench.result import ROOT, Result, figure
from tests.live import KEY, ORGANISATION, Live

SHARE = 0.1
ORDER = (0.0, SHARE, SHARE, 0.0)  # of the turns of a run, so that what drifts befalls both alike
PROBES_S = 100  # a second, less what each takes
SECONDS = 10.0
BEGIN = 3.0  # until it is under way
PROBED = 25  # users in each group


class Turn(msgspec.Struct):
    """Milliseconds of each probe, in the other partitions and in the hot user's; events a second accepted."""

    share: float
    others: list[float]
    beside: list[float]
    rate: float


def run(options: Options) -> Result:
    seconds = options.seconds or SECONDS
    with everything() as (api, client):
        numbers = itertools.count()
        users = probed(open_store(client))
        look = partial(_turn, api, client, users, numbers, seconds=seconds)
        rounds = [[look(share=share) for share in ORDER] for _ in range(options.runs)]
    calm, hot = ([_pooled(turns, share) for turns in rounds] for share in (0.0, SHARE))
    both = list(zip(calm, hot, strict=True))
    return Result(
        {
            "others_p50_ms": figure([at(each.others, 0.5) for each in hot], "ms"),
            "others_p99_ms": figure([at(each.others, 0.99) for each in hot], "ms"),
            "others_p50_ms_without": figure([at(each.others, 0.5) for each in calm], "ms"),
            "others_p99_ms_without": figure([at(each.others, 0.99) for each in calm], "ms"),
            "ratio_p50": figure([at(b.others, 0.5) / at(a.others, 0.5) for a, b in both], "x", "lower"),
            "ratio_p99": figure([at(b.others, 0.99) / at(a.others, 0.99) for a, b in both], "x", "lower"),
            "beside_p99_ms": figure([at(each.beside, 0.99) for each in hot], "ms"),
            "beside_p99_ms_without": figure([at(each.beside, 0.99) for each in calm], "ms"),
            "hot_events_per_s": figure([SHARE * each.rate for each in hot], "1/s", ""),
            "events_per_s": figure([each.rate for each in hot], "1/s", ""),
        }
    )


def _pooled(turns: list[Turn], share: float) -> Turn:
    """Those with this share of events by the hot user, as one."""
    mine = [turn for turn in turns if turn.share == share]
    others, beside = (list(itertools.chain(*each)) for each in ([t.others for t in mine], [t.beside for t in mine]))
    return Turn(share, others, beside, sum(turn.rate for turn in mine) / len(mine))


def probed(store: Store) -> tuple[list[str], list[str]]:
    """Users in the other partitions, and in the hot user's."""
    hot = _partition(store, HOT)
    names = [f"probe-{i}" for i in range(40 * store.partitions * PROBED)]
    others = [name for name in names if _partition(store, name) != hot]
    return others[:PROBED], [name for name in names if _partition(store, name) == hot][:PROBED]


def _partition(store: Store, user: str) -> int:
    return identity(store, f"{ORGANISATION}/{user}".encode()) % store.partitions


def _turn(
    api: Live,
    client: redis.Redis,
    users: tuple[list[str], list[str]],
    numbers: Iterator[int],
    *,
    share: float,
    seconds: float,
) -> Turn:
    words = [str(api.port), KEY, str(RATE), str(BATCH), str(seconds + BEGIN + 1), str(share)]
    found: tuple[list[float], list[float]] = ([], [])
    with subprocess.Popen(
        [sys.executable, "-m", "tests.bench.paced", *words], cwd=ROOT, stdout=subprocess.PIPE
    ) as pace:
        time.sleep(BEGIN)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            n = next(numbers)
            group, times = users[n % 2], found[n % 2]
            times.append(feature_ms(api, client, group[n // 2 % PROBED], n))
            time.sleep(1 / PROBES_S)
        assert pace.stdout
        return Turn(share, *found, rate=float(pace.stdout.read()))
