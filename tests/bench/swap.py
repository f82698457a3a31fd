"""What a new version costs those who ask meanwhile: 1,000 scores a second by user, a promotion each second.

`worst_ms`: the slowest request that was due within 0.5 s after a promotion, when the API looks, verifies and swaps;
`otherwise_ms`: the slowest of the other half of the time, which is the machine's own. Each timed from when it was due.
"""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import uvloop

from feature_repo.settings import Settings
from onnx_models import card, registry
from onnx_models.library import Library
from tests.bench.lookup import USERS, store_with_people
from tests.bench.lookup_load import Caller, Callers, encoded, paced
from tests.bench.options import Options
from tests.bench.result import ROOT, Result, figure
from tests.live import KEY, Live, live

NAME = "likely_to_sell"
VERSIONS = ("20990101000000", "20990102000000")
RATE, CONNECTIONS = 1_000.0, 8
EVERY_S, AFTER_S = 1.0, 0.5
PROMOTER = """
import itertools, sys, time
from pathlib import Path
from onnx_models.library import Library
home, name, seconds, *versions = sys.argv[1:]
library, turns = Library(Path(home)), itertools.cycle(versions)
end = time.perf_counter() + float(seconds)
while time.perf_counter() < end:
    print(time.perf_counter(), flush=True)
    library.promote(name, next(turns), "bench", "swap")
    time.sleep(1.0)
"""


class Timed(Callers):
    """`seen`: when each request was due, and how long it took, seconds."""

    def __init__(self, requests: list[bytes]) -> None:
        super().__init__(itertools.cycle(requests))
        self.seen: list[tuple[float, float]] = []

    def _ended(self, caller: Caller, due: float, good: bool) -> None:
        self.seen.append((due, time.perf_counter() - due))
        super()._ended(caller, due, good)


def run(options: Options) -> Result:
    seconds = options.seconds or 20.0
    with store_with_people() as settings:
        library = versions(settings)
        with live(settings) as api:
            asked(api, 3.0)  # warm
            rounds = [measured(api, library, seconds) for _ in range(options.runs)]
    return Result(
        {
            "worst_ms": figure([worst for worst, _, _ in rounds], "ms"),
            "otherwise_ms": figure([otherwise for _, otherwise, _ in rounds], "ms"),
            "swaps": figure([float(count) for _, _, count in rounds], ""),
        }
    )


def versions(settings: Settings) -> Library:
    """The model that ships, as two versions of this home, both proved."""
    shipped = registry.HERE / NAME / registry.versions(NAME)[-1]
    library = Library.of(settings)
    for version in VERSIONS:
        place = Path(shutil.copytree(shipped, library.places[0] / NAME / version))
        told = card.decode((place / card.METADATA).read_bytes())
        (place / card.METADATA).write_bytes(card.encode(msgspec.structs.replace(told, version=version)))
        library.promote(NAME, version, "bench", "to be swapped")
    return library


def measured(api: Live, library: Library, seconds: float) -> tuple[float, float, int]:
    """(slowest after a promotion, slowest otherwise, promotions), ms. Raises RuntimeError when a request failed."""
    words = [sys.executable, "-c", PROMOTER, str(library.places[0]), NAME, str(seconds), *VERSIONS]
    generation = library.book(NAME).generation
    with subprocess.Popen(words, stdout=subprocess.PIPE, cwd=ROOT) as promoter:
        assert promoter.stdout is not None
        seen = asked(api, seconds)
        moments = [float(line) for line in promoter.stdout.read().split()]
    if library.book(NAME).generation - generation != len(moments):
        raise RuntimeError(f"expected {len(moments)} promotions")
    after = [took for due, took in seen if any(at <= due < at + AFTER_S for at in moments)]
    otherwise = [took for due, took in seen if not any(at <= due < at + AFTER_S for at in moments)]
    return 1000 * max(after), 1000 * max(otherwise), len(moments)


def asked(api: Live, seconds: float) -> list[tuple[float, float]]:
    """When each request was due, and how long it took, seconds. Raises RuntimeError when one failed."""
    bodies = [msgspec.json.encode({"id": f"user-{i * 7919 % USERS}"}) for i in range(2_000)]
    callers = Timed(encoded(bodies, KEY, f"/v1/score/{NAME}"))

    async def ask() -> None:
        await callers.connect(api.port, CONNECTIONS)
        await paced(callers, time.perf_counter() + seconds, RATE)
        await callers.quiet()
        callers.close()

    uvloop.run(ask())
    if callers.failed:
        raise RuntimeError(f"{callers.failed} of {len(callers.seen)} requests failed")
    return callers.seen
