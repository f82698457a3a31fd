"""The asyncio connection: by socket or port, with a password, lost and found again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import uvloop

from feature_repo.settings import Settings
from flows.resp import Lost, Refused, StoreError, pack
from flows.store import Embedded, connect, embedded
from serving.connection import Client, dial


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Embedded]:
    server = embedded(tmp_path)
    yield server
    server.stop()


@contextlib.asynccontextmanager
async def client_of(settings: Settings) -> AsyncIterator[Client]:
    client = Client(settings)
    yield client
    client.close()
    await asyncio.sleep(0.01)


def test_by_port_with_user_password_and_database(server: Embedded, tmp_path: Path) -> None:
    """As TELLTALE_REDIS_URL says; a wrong password is named as such."""
    home = Settings(home=tmp_path)
    url = f"redis://app:{{}}@127.0.0.1:{server.where.port}/3"
    right, wrong = (Settings(home=tmp_path, redis_url=url.format(word)) for word in ("s3cret", "wrong"))

    async def set_there() -> None:
        async with client_of(right) as client:
            await client.call(pack("SET", "here", 1))
        with pytest.raises(Refused, match="WRONGPASS"):
            await dial(wrong)

    with contextlib.closing(connect(home)) as plain:
        plain.execute_command("ACL", "SETUSER", "app", "on", ">s3cret", "~*", "&*", "+@all")
        asyncio.run(set_there())
        assert plain.get("here") is None
    with contextlib.closing(connect(right)) as there:
        assert there.get("here") == b"1"


def test_a_client_finds_the_store_again(server: Embedded, tmp_path: Path) -> None:
    """A call fails while the store is away, and the next one after its return does not."""

    async def across_a_kill() -> list[object]:
        async with client_of(Settings(home=tmp_path)) as client:
            await client.call(pack("SET", "a", "1"))
            assert server.process is not None
            server.process.kill()
            server.process.wait()
            with pytest.raises(StoreError):
                await client.call(pack("GET", "a"))
            server.restart()
            return await client.call(pack("GET", "a"), pack("PING"))

    assert asyncio.run(across_a_kill()) == [b"1", b"PONG"]


def test_a_caller_who_gives_up_spoils_nothing(server: Embedded, tmp_path: Path) -> None:
    """The reply that nobody waited for does not answer the next call."""

    async def give_up() -> list[object]:
        async with client_of(Settings(home=tmp_path)) as client:
            impatient = asyncio.create_task(client.call(pack("BLPOP", "nothing", 0.3)))
            await asyncio.sleep(0.05)
            impatient.cancel()
            await asyncio.sleep(0.4)
            return await client.call(pack("ECHO", "mine"))

    assert asyncio.run(give_up()) == [b"mine"]


def test_a_store_that_hangs_is_given_up(server: Embedded, tmp_path: Path) -> None:
    """Silence is not waited for without end."""

    async def hang() -> None:
        connection = await dial(Settings(home=tmp_path), patience=0.2)
        with pytest.raises(Lost, match=r"did not answer within 0\.2 s"):
            await connection.call([pack("BLPOP", "nothing", 5)])
        assert connection.closed
        await asyncio.sleep(0.01)

    asyncio.run(hang())


def test_one_refused_command_is_told(server: Embedded, tmp_path: Path) -> None:
    """And the connection is good for the next call."""

    async def wrong() -> None:
        async with client_of(Settings(home=tmp_path)) as client:
            with pytest.raises(Refused) as caught:
                await client.call(pack("SET", "text", "x"), pack("HGET", "text", "y"), pack("PING"))
            assert caught.value.code == "WRONGTYPE"
            assert await client.call(pack("PING")) == [b"PONG"]

    asyncio.run(wrong())


def test_nobody_there_is_said_with_the_address(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, redis_url="redis://127.0.0.1:1")
    with pytest.raises(Lost, match=r"127\.0\.0\.1:1"):
        asyncio.run(dial(settings))


def test_a_connection_that_another_call_closed_is_lost(server: Embedded, tmp_path: Path) -> None:
    """With either event loop: uvloop's transport would raise a RuntimeError when written to."""

    async def call_closed() -> None:
        connection = await dial(Settings(home=tmp_path))
        connection.close()
        with pytest.raises(Lost, match="went away"):
            await connection.call([pack("PING")])

    asyncio.run(call_closed())
    uvloop.run(call_closed())
