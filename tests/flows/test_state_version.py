"""State that another version wrote is refused, and left as it stands until somebody comes who reads it."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest
import redis

from feature_repo import keys
from feature_repo.settings import Settings
from flows import poison
from flows.plan import Plan
from flows.state import VERSION, Layouts, StateError, identified, identity, key
from flows.store import Store, create
from serving.supervisor import environment
from tests.faults import engines
from tests.flows import streams_made as made
from tests.flows.both_sides import VOCABULARY
from tests.live import ORGANISATION, live

LIVES = poison.LIVES + poison.TRIES + 2
MANY_LIVES = f"from flows.alerting import main\nfor _ in range({LIVES}):\n    assert main() == 1"
LATER = bytes([VERSION + 1])
VALUES = (LATER, LATER + bytes(7), LATER + bytes(12), LATER + bytes(800), b"", b"\xff" * 21)
USER, NAME = "u0", "org/u0"


@pytest.fixture
def store(client: redis.Redis, settings: Settings) -> Store:
    """One in which somebody has opened a document, as today's engine wrote it; they open another."""
    store = create(client, msgspec.structs.replace(settings, partitions=1))
    engine = made.engine(VOCABULARY, settings, store, client)
    engines.post(client, store, 1, 1)
    made.drain(engine)
    engine.close()
    engines.post(client, store, 1, 2)
    return store


def stands(client: redis.Redis, store: Store) -> list[object]:
    """All that an engine writes of that person and of what it has counted."""
    uid, partitions = identity(store, NAME.encode()), range(store.partitions)
    state = client.mget([key(keys.HOT, uid), key(keys.COLD, uid), *map(keys.position, partitions)])
    counts = [client.hgetall(keys.counts(p)) for p in partitions]
    return [state, counts, client.exists(keys.DEAD), made.features(client, VOCABULARY, USER)]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{len(value)}-{value[:1].hex()}")
@pytest.mark.parametrize("part", [keys.HOT, keys.COLD])
def test_what_another_version_wrote_is_refused(client: redis.Redis, store: Store, part: bytes, value: bytes) -> None:
    """Whatever it looks like behind the first byte."""
    uid = identity(store, NAME.encode())
    client.set(key(part, uid), value)
    hot, cold = client.mget([key(keys.HOT, uid), key(keys.COLD, uid)])
    with pytest.raises(StateError, match="state of"):
        Layouts(Plan(VOCABULARY), client).read([hot], [cold])


def test_nobody_is_taken_for_identified_by_another_version(client: redis.Redis, store: Store) -> None:
    """A name is not looked for in a value of which only the first byte is known."""
    client.set(key(keys.COLD, identity(store, NAME.encode())), LATER + bytes(30))
    with pytest.raises(StateError, match=f"version {VERSION + 1}"):
        identified(client, store, NAME)


@pytest.mark.parametrize("part", [keys.HOT, keys.COLD])
def test_an_engine_says_so_writes_nothing_and_loses_nothing(
    client: redis.Redis, settings: Settings, store: Store, part: bytes
) -> None:
    """However often it is started again; whoever reads that version goes on from there."""
    where = key(part, identity(store, NAME.encode()))
    ours = client.get(where)
    client.set(where, LATER + bytes(13))
    before = stands(client, store)
    done = subprocess.run(
        [sys.executable, "-c", MANY_LIVES], env=environment(settings), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"state of version {VERSION + 1}: not one that this Telltale reads" in done.stderr.splitlines()[-1]
    assert stands(client, store) == before
    client.set(where, ours)
    with engines.engine(settings):
        engines.until_counted(client, store)
    assert engines.opened(client, USER) == 2


def test_the_api_says_so(client: redis.Redis, settings: Settings, store: Store) -> None:
    """As a store that cannot be used now, not as a fault of its own."""
    with live(settings) as api:
        uid = identity(store, f"{ORGANISATION}/{USER}".encode())
        client.mset({key(keys.HOT, uid): LATER + bytes(13), key(keys.COLD, uid): LATER + bytes(13)})
        answer = api.ask("GET", f"/v1/users/{USER}/signals")
    assert answer.status == 503
    assert f"state of version {VERSION + 1}" in answer.json["detail"]
