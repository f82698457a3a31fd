"""`telltale up` and `telltale run`: everything on this machine, until Ctrl-C."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import suppress

import msgspec

from feature_repo import vocabulary
from feature_repo.settings import Settings
from flows import store
from flows.embedded import Embedded
from flows.losses import created
from serving import write_keys
from serving.client import Door
from serving.complaint import Complaint
from serving.port import claim_port
from serving.supervisor import ENGINE, Child, Supervisor, children, end_on_signals, module
from serving.view import Screen

LAST_OWNERS_END = 1.5  # seconds that the API of a supervisor just killed may take to let go of the port


class Ground(msgspec.Struct, frozen=True):
    """What has to stand before the children start. `server` is None where the Redis is the user's own."""

    settings: Settings
    server: Embedded | None
    key: str
    new_key: bool
    warnings: tuple[str, ...]


def up(settings: Settings) -> None:
    """Runs everything but the simulator; returns after Ctrl-C or SIGTERM. Raises Complaint, StoreError."""
    ground = prepare(settings)
    supervisor = Supervisor(settings, ground.server, children(settings), _say)
    end_on_signals(supervisor)
    for line in _greeting(ground):
        _tell(line)
    supervisor.run()
    _tell("stopped; nothing is lost")


def run(settings: Settings, simulator: Sequence[str]) -> None:
    """Runs everything, with simulated people, and shows it. `simulator`: arguments of `training.live`.

    Raises Complaint, StoreError.
    """
    begun = time.monotonic()
    settings = msgspec.structs.replace(settings, clock="log")
    ground = prepare(settings)
    screen = Screen(begun)
    people = Child(
        name="simulator", command=simulate_command(ground, simulator), rank=0, patience=1.0, lines=screen.clock
    )
    supervisor = Supervisor(settings, ground.server, (*children(settings), people), screen.say)
    end_on_signals(supervisor)
    for line in _greeting(ground):
        screen.say(line)
    watching = threading.Event()
    viewer = threading.Thread(target=screen.show, args=(Door(settings, ground.key), watching), daemon=True)
    viewer.start()
    try:
        supervisor.run()
    finally:
        watching.set()
        viewer.join(1.0)
    print("stopped; nothing is lost: the next run goes on from here", flush=True)


def simulate_command(ground: Ground, more: Sequence[str]) -> tuple[str, ...]:
    url = Door(ground.settings, ground.key).url
    return module("training.live", "--url", url, "--key", ground.key, *more)


def prepare(settings: Settings) -> Ground:
    """Vocabulary, port, store and write key. Raises Complaint, StoreError or VocabularyError; then nothing runs."""
    vocabulary.load(settings.feature_repo)
    claim_port(settings, LAST_OWNERS_END)
    server = None if settings.redis_url else _own_server(settings)
    try:
        client = store.connect(settings)
        created(client, settings)
        key, new = write_keys.first(client)
        return Ground(settings, server, key, new, tuple(store.durability(client)))
    except store.StoreError:
        if server is not None:
            server.stop()
        raise


def engine(settings: Settings) -> None:
    """Runs one more engine over a store that runs, here or elsewhere, until Ctrl-C or SIGTERM. Raises StoreError."""
    vocabulary.load(settings.feature_repo)
    partitions = store.open_store(store.connect(settings)).partitions
    child = msgspec.structs.replace(ENGINE, name="engine-added")
    supervisor = Supervisor(settings, None, [child], _say)
    end_on_signals(supervisor)
    log = settings.home / "logs" / f"{child.name}.log"
    print(f"engine over {store.address(settings)}, for its share of {partitions} partitions; log in {log}", flush=True)
    supervisor.run()
    print("stopped; the other engines go on with its share", flush=True)


def _own_server(settings: Settings) -> Embedded:
    server = store.embedded(settings.home)
    if server.process is None:
        raise Complaint(f"Telltale runs already on {settings.home} (its store is process {server.where.pid})")
    return server


def _greeting(ground: Ground) -> list[str]:
    settings = ground.settings
    where = (
        f"embedded Valkey, port {ground.server.where.port}" if ground.server else f"Redis at {store.address(settings)}"
    )
    url = Door(settings, ground.key).url
    return [
        f"page   {url} (alerts, people, statistics, health: sign in with the key)",
        f"API    {url} (its documentation: /docs)",
        f"store  {where}; data and logs in {settings.home}",
        f"key    {ground.key}"
        + (" (just made: post events with it, as Basic auth user; all keys: telltale keys)" if ground.new_key else ""),
        *(f"beware {warning}" for warning in ground.warnings),
    ]


def _say(line: str) -> None:
    _tell(f"{time.strftime('%H:%M:%S')} {line}")


def _tell(line: str) -> None:
    with suppress(OSError):  # a full disk under what we print into is no reason to end
        print(line, flush=True)
