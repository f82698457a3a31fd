"""The quick connection to the store: replies in order, and every caller told when there are none."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis

from feature_repo.settings import Settings
from flows.resp import Lost, Refused, StoreError, pack
from serving.pipeline import Pipeline


def with_pipeline(settings: Settings, use: Callable[[Pipeline], Awaitable[None]], patience: float = 10.0) -> None:
    async def run() -> None:
        pipeline = Pipeline(settings, patience)
        await use(pipeline)
        pipeline.close()
        await asyncio.sleep(0.01)

    asyncio.run(run())


def test_each_has_its_own_replies_in_order(client: redis.Redis, settings: Settings) -> None:
    """Hundreds at once, of one command and of several, small and large."""

    async def use(pipeline: Pipeline) -> None:
        async def ask(i: int) -> None:
            words = [b"%d" % (i * 10 + j) + b"x" * (i % 7 * 20_000) for j in range(1 + i % 5)]
            assert await pipeline.call(b"".join(pack("ECHO", word) for word in words), len(words)) == words

        await asyncio.gather(*map(ask, range(300)))

    with_pipeline(settings, use)


def test_a_refusal_reaches_only_who_asked(client: redis.Redis, settings: Settings) -> None:
    """And the connection goes on."""

    async def use(pipeline: Pipeline) -> None:
        answers = await asyncio.gather(
            pipeline.call(pack("NONSENSE") + pack("ECHO", "a"), 2),
            pipeline.call(pack("ECHO", "b"), 1),
            return_exceptions=True,
        )
        assert isinstance(answers[0], Refused)
        assert answers[1] == [b"b"]

    with_pipeline(settings, use)


def test_all_who_wait_are_told_that_the_connection_went(client: redis.Redis, settings: Settings) -> None:
    """The next to ask has a new one."""

    async def use(pipeline: Pipeline) -> None:
        await pipeline.ready()
        found: list[Any] = []
        pipeline.send(pack("BLPOP", "nothing", 0), 1, found.append)
        pipeline.send(pack("ECHO", "a"), 1, found.append)
        await asyncio.sleep(0.05)
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await asyncio.sleep(0.05)
        assert [type(one) for one in found] == [Lost, Lost]
        assert not pipeline.connected
        assert await pipeline.call(pack("ECHO", "again"), 1) == [b"again"]

    with_pipeline(settings, use)


def test_a_store_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    """After `patience` seconds or little more."""

    async def use(pipeline: Pipeline) -> None:
        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        server = await asyncio.start_unix_server(silent, tmp_path / "silent")
        began = time.monotonic()
        with pytest.raises(Lost):
            await pipeline.call(pack("PING"), 1)
        assert 0.2 <= time.monotonic() - began < 2
        server.close()

    with_pipeline(Settings(home=tmp_path, redis_url=f"unix://{tmp_path}/silent"), use, patience=0.2)


def test_a_password_is_said_first_and_a_wrong_one_is_told(
    client: redis.Redis, settings: Settings, request: pytest.FixtureRequest
) -> None:
    """As for every other connection."""
    request.addfinalizer(lambda: client.config_set("requirepass", ""))
    client.config_set("requirepass", "secret")
    client.execute_command("AUTH", "secret")

    async def right(pipeline: Pipeline) -> None:
        assert await pipeline.call(pack("ECHO", "in"), 1) == [b"in"]

    async def wrong(pipeline: Pipeline) -> None:
        with pytest.raises(StoreError, match="WRONGPASS"):
            await pipeline.ready()

    for password, use in (("secret", right), ("guess", wrong)):
        url = settings.redis_url.replace("unix://", f"unix://:{password}@")
        with_pipeline(msgspec.structs.replace(settings, redis_url=url), use)
