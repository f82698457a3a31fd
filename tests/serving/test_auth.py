"""Write keys: looked up once for all who ask at the same time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from feature_repo import keys
from feature_repo.settings import Settings
from flows.resp import StoreError
from flows.store import connect
from serving.auth import FRESH, Auth, basic_user
from serving.connection import Client
from serving.errors import ApiError
from tests.serving.test_ingest import basic

HEADER = basic("k").encode()


def with_auth(settings: Settings, use: Callable[[Auth, list[float]], Awaitable[None]]) -> None:
    async def run() -> None:
        client, now = Client(settings), [0.0]
        await use(Auth(client, lambda: now[0]), now)
        client.close()
        await asyncio.sleep(0.01)

    asyncio.run(run())


def lookups(settings: Settings) -> int:
    with contextlib.closing(connect(settings)) as client:
        return int(client.info("commandstats").get("cmdstat_hget", {}).get("calls", 0))


def test_a_hundred_who_ask_together_cost_one_lookup(client: object, settings: Settings) -> None:
    """And the answer is believed for a second, not longer."""
    with contextlib.closing(connect(settings)) as store:
        store.hset(keys.KEYS, "k", "org")

    async def ask(auth: Auth, now: list[float]) -> None:
        before = lookups(settings)
        assert set(await asyncio.gather(*(auth.organisation(HEADER) for _ in range(100)))) == {b"org"}
        assert (await auth.organisation(HEADER), lookups(settings)) == (b"org", before + 1)
        now[0] += FRESH
        assert (await auth.organisation(HEADER), lookups(settings)) == (b"org", before + 2)

    with_auth(settings, ask)


def test_all_who_ask_in_vain_are_told(client: object, settings: Settings) -> None:
    """An unknown key is not remembered: it works as soon as it is made."""

    async def ask(auth: Auth, now: list[float]) -> None:
        answers = await asyncio.gather(*(auth.organisation(HEADER) for _ in range(3)), return_exceptions=True)
        assert [type(answer) for answer in answers] == [ApiError] * 3
        with contextlib.closing(connect(settings)) as store:
            store.hset(keys.KEYS, "k", "org")
        assert await auth.organisation(HEADER) == b"org"

    with_auth(settings, ask)


def test_without_a_store_nobody_is_let_in(tmp_path: Path) -> None:
    async def ask(auth: Auth, now: list[float]) -> None:
        with pytest.raises(StoreError):
            await auth.organisation(HEADER)

    with_auth(Settings(home=tmp_path, redis_url="redis://127.0.0.1:1"), ask)


@pytest.mark.parametrize(
    ("header", "user"), [(b"Basic azo=", "k"), (b"basic azpwdw==", "k"), (b"BASIC aw==", "k"), (b"Basic Og==", "")]
)
def test_the_key_is_the_user_name(header: bytes, user: str) -> None:
    """Whatever the password, and however the scheme is spelled."""
    assert basic_user(header) == user


def test_who_asks_all_the_time_never_waits(client: object, settings: Settings) -> None:
    """A key is looked up again before its second is over, while it is still believed."""
    with contextlib.closing(connect(settings)) as store:
        store.hset(keys.KEYS, "k", "org")

    async def ask(auth: Auth, now: list[float]) -> None:
        await auth.organisation(HEADER)
        before = lookups(settings)
        for _ in range(10):
            now[0] += 0.6 * FRESH
            assert auth.remembered(HEADER) == b"org"
            await asyncio.sleep(0.02)
        assert lookups(settings) == before + 10

    with_auth(settings, ask)


def test_a_key_taken_away_is_not_believed_longer_for_being_asked_for(client: object, settings: Settings) -> None:
    """What was found in vain leaves the old answer its second."""
    with contextlib.closing(connect(settings)) as store:
        store.hset(keys.KEYS, "k", "org")

    async def ask(auth: Auth, now: list[float]) -> None:
        await auth.organisation(HEADER)
        with contextlib.closing(connect(settings)) as store:
            store.hdel(keys.KEYS, "k")
        now[0] += 0.6 * FRESH
        assert auth.remembered(HEADER) == b"org"
        await asyncio.sleep(0.02)
        now[0] += 0.6 * FRESH
        assert auth.remembered(HEADER) is None

    with_auth(settings, ask)
