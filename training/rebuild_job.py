"""The command around `training.rebuild`: a store to rebuild into, progress on the screen, one word at the end."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import redis
import sqlalchemy as sa
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from feature_repo import settings as configuration
from feature_repo.settings import Settings
from feature_repo.vocabulary import load
from flows.alerting import watched
from flows.lake_shelf import LakeError
from flows.lake_store import Identity, identity, locked
from flows.losses import once_held, told
from flows.resp import StoreError
from flows.store import connect, dial, embedded
from training.rebuild import Rebuild
from training.relogged import rows


def arguments(job: argparse.ArgumentParser) -> None:
    job.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Raises NotEmpty, LakeError, StoreError."""
    settings = configuration.load()
    whose = identity(settings.lake)
    if whose is None and (store := once_held(settings)):  # lost before the lake first ran
        whose = Identity(**msgspec.structs.asdict(store))
    if whose is None:
        raise LakeError(f"{settings.lake}: expected the lake of an earlier store, with its store.json; there is none")
    with locked(settings.lake), _store(settings) as client:
        vocabulary = load(settings.feature_repo)
        found = watched(vocabulary, settings).models
        job = Rebuild(settings, vocabulary, whose, client, lambda: dial(settings), found)
        job.begin()
        with _progress() as shown:
            bar = shown.add_task("rows of the lake", total=rows(settings.lake))
            try:
                job.run(lambda done: shown.advance(bar, done))
            except (redis.RedisError, sa.exc.OperationalError) as error:
                raise StoreError(f"{str(error).splitlines()[0]}; `telltale rebuild` goes on from here") from error
    if whose.removed_until:
        print(f"beware: the lake keeps no events up to {whose.removed_until}, so what came of them is not restored")
    print(_loss(job.lost))
    print("rebuilt: state, features and counts are what the lake holds. Write keys are new: `telltale up` makes one")
    return 0


def _loss(lost: list[int] | None) -> str:
    if lost is None:
        return "lost: what had been accepted beyond the lake; how many events that were is not known"
    if not any(lost):
        return "lost: nothing that is known to have been accepted"
    return f"lost: {told(lost)} that had not reached the lake"


@contextmanager
def _store(settings: Settings) -> Iterator[redis.Redis]:
    """The store that is there, or the embedded one of this home for as long as it takes."""
    server = None if settings.redis_url else embedded(settings.home)
    try:
        client = connect(settings)
        yield client
        client.close()
    finally:
        if server is not None:
            server.stop()


def _progress() -> Progress:
    return Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
