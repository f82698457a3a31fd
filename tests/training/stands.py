"""A store whose vocabulary changes while it lives, for the tests of what is loaded then."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import redis

from feature_repo import keys
from feature_repo.settings import Settings
from feature_repo.vocabulary import Vocabulary
from flows.engine import Engine
from flows.lake import Lake
from flows.store import create
from tests.flows import streams_made as made
from tests.live import ROOT, environment
from tests.training import eras_made as eras
from tests.training.eras_made import (
    OLD,
    Call,
    Ideal,
)
from training.load import Load, Loaded


class Stand:
    """A store whose vocabulary changes, an engine with little memory, a lake."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self.client, self.settings = client, settings
        self.store = create(client, settings)
        self.calls: list[Call] = []
        self.joins: list[tuple[int, str, str]] = []
        self.engine: Engine | None = None
        self.vocabulary = OLD

    def turn(self, vocabulary: Vocabulary) -> None:
        """The engine ends, and goes on under a vocabulary."""
        self.stop()
        self.vocabulary = vocabulary
        self.engine = made.engine(vocabulary, self.settings, self.store, self.client)

    def stop(self) -> None:
        if self.engine:
            made.kill(self.engine)
        self.engine = None

    def post(self, *calls: Call, door: Vocabulary | None = None) -> None:
        self.calls += calls
        eras.post(self.client, self.store, door or self.vocabulary, list(calls))

    def join(self, now: int, anonymous: str, user: str) -> None:
        self.joins.append((now, anonymous, user))
        made.join(self.client, self.store, self.vocabulary, anonymous, user, now)

    def drain(self) -> None:
        assert self.engine
        made.drain(self.engine)

    def flush_lake(self) -> None:
        """What the lake's process does with all that the log holds; then the log goes."""
        lake = Lake(self.settings, self.client, self.store, lambda: 0.0)
        lake.vocabulary = self.vocabulary
        lake.recover()
        while not all(self.client.get(keys.lake_position(p)) == self._end(p) for p in range(self.store.partitions)):
            lake.take(lake.read())
            lake.flush()
        lake.close()
        for p in range(self.store.partitions):
            self.client.xtrim(keys.log(p), maxlen=0)

    def _end(self, partition: int) -> Any:
        last: Any = self.client.xrevrange(keys.log(partition), count=1)
        return last[0][0] if last else self.client.get(keys.lake_position(partition))

    def load(self, meanwhile: Iterable[list[Call]] = ()) -> Loaded:
        """Runs the load, and the engine with events that come meanwhile."""
        run = Load(self.settings, self.vocabulary, self.client, self.store)
        thread = threading.Thread(target=run.run)
        thread.start()
        for calls in meanwhile:
            self.post(*calls)
            self.step()
        while thread.is_alive():
            self.step()
        self.drain()
        return run.done

    def step(self) -> None:
        assert self.engine
        made.step(self.engine)

    def logged(self) -> int:
        """Entries in the log."""
        return sum(self.client.xlen(keys.log(p)) for p in range(self.store.partitions))

    def until_logged(self, entries: int, job: subprocess.Popen[str]) -> None:
        while self.logged() < entries:
            assert job.poll() is None
            time.sleep(0.01)

    def found(self, user: str) -> tuple[dict[str, float | None], int]:
        features = made.features(self.client, self.vocabulary, user)
        return features, made.feature_time(self.client, self.vocabulary, user)

    def wrong(self, *, null: bool = False) -> dict[str, Any]:
        """Whose features are not those of a store that ran with today's vocabulary from the first call on.

        `null`: a feature may have no value.
        """
        ideal, out = Ideal(self.vocabulary, self.calls, self.joins), {}
        for user in list(ideal.users):
            features, at = self.found(user)
            expected = ideal.features(user, at)
            off = {name: (x, expected[name]) for name, x in features.items() if x != expected[name]}
            if off := {name: both for name, both in off.items() if both[0] is not None or not null}:
                out[user] = off
        return out


def call(n: int, event: str, at: int, user: str = "u1", **more: Any) -> Call:
    return Call(user, at, at, n, event, **more)


def command(stand: Stand, tmp_path: Path, module: str = "serving.command") -> subprocess.Popen[str]:
    """`telltale backfill --load` under MORE, or the job that it starts."""
    home = tmp_path / "of_mine"
    home.mkdir(exist_ok=True)
    names = ("EVENTS", "FEATURES", "TRAITS")
    lines = ["from tests.training.eras_made import MORE", *(f"{name} = MORE.{name.lower()}" for name in names)]
    (home / "domain.py").write_text("\n".join(lines))
    settings = msgspec.structs.replace(stand.settings, feature_repo=str(home))
    words = [sys.executable, "-m", module, "backfill", "--load"]
    return subprocess.Popen(words, env=environment(settings), cwd=ROOT, stdout=subprocess.PIPE, text=True)
