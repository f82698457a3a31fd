"""The store away, full or killed: callers are told to come back, and nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import http.client
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from feature_repo.settings import Settings
from feature_repo.vocabulary import Vocabulary
from flows.resp import Lost
from flows.store import Embedded, Store, embedded
from serving.append import Appender, Group, Unavailable
from serving.connection import Connection
from tests.live import Live, live
from tests.logged import Log


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Embedded]:
    server = embedded(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def api(server: Embedded, tmp_path: Path) -> Iterator[Live]:
    with live(Settings(home=tmp_path, partitions=4)) as running:
        yield running


def call(number: int) -> dict[str, object]:
    return {"userId": f"u{number % 50}", "event": "Document Viewed", "messageId": f"m{number}"}


def kill(server: Embedded) -> None:
    assert server.process is not None
    server.process.kill()
    server.process.wait()


def post_until(api: Live, number: int, status: int, seconds: float = 10.0) -> float:
    """How long it took until the call was answered so."""
    began = time.monotonic()
    while (answer := api.post("/v1/track", call(number)).status) != status:
        assert time.monotonic() - began < seconds, f"still {answer}"
        time.sleep(0.02)
    return time.monotonic() - began


def test_without_a_store_callers_are_told_to_come_back(api: Live, server: Embedded) -> None:
    """503 with Retry-After while it is gone; work goes on when it is back, without a restart."""
    post_until(api, 0, 200)
    kill(server)
    post_until(api, 1, 503)
    answer = api.post("/v1/track", call(2))
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["content-type"] == "application/problem+json"
    answer = api.post("/v1/score/likely_to_sell", {"id": "u1"})
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert api.ask("GET", "/healthz").status == 200
    assert api.ask("GET", "/readyz").status == 503
    server.restart()
    assert post_until(api, 3, 200) < 5
    assert api.post("/v1/score/likely_to_sell", {"id": "u1"}).status == 200


def test_kills_of_the_store_lose_nothing_that_was_acknowledged(api: Live, server: Embedded, tmp_path: Path) -> None:
    """Five kills under load: every call answered 200 is there, and `accepted` equals what is stored."""
    acknowledged: set[str] = set()
    over = threading.Event()

    def client(first: int) -> None:
        number = first
        while not over.is_set():
            if api.post("/v1/track", call(number)).status == 200:
                acknowledged.add(f"m{number}")
                number += 4

    clients = [threading.Thread(target=client, args=(i,)) for i in range(4)]
    for thread in clients:
        thread.start()
    for _ in range(5):
        time.sleep(0.3)
        kill(server)
        server.restart()
    post_until(api, 1_000_000, 200)
    over.set()
    for thread in clients:
        thread.join()
    log = Log(Settings(home=tmp_path))
    stored = [event.json["messageId"] for event in log.events()]
    assert len(acknowledged) > 50
    assert acknowledged <= set(stored)
    assert log.accepted() == len(stored)


def test_a_kill_of_the_api_leaves_what_it_acknowledged(server: Embedded, tmp_path: Path) -> None:
    """An entry and its count are one transaction, wherever the API dies."""
    settings = Settings(home=tmp_path, partitions=4)
    acknowledged: set[str] = set()
    for life in range(3):
        with live(settings) as running:
            threading.Timer(0.3, running.process.kill).start()
            for number in range(life * 10_000, (life + 1) * 10_000):
                try:
                    answer = running.post("/v1/track", call(number))
                except (OSError, http.client.HTTPException):
                    break
                assert answer.status == 200
                acknowledged.add(f"m{number}")
    log = Log(settings)
    stored = [event.json["messageId"] for event in log.events()]
    assert acknowledged
    assert acknowledged <= set(stored)
    assert log.accepted() == len(stored)


def test_a_store_nearly_full_takes_no_more_events(api: Live, tmp_path: Path) -> None:
    """At 70 % of its memory ingest stops, so that the engine has room; below it, ingest goes on."""
    client = Log(Settings(home=tmp_path)).client
    used = int(client.info("memory")["used_memory"])
    most = 4 * used + 40_000_000
    client.config_set("maxmemory", most)
    for _ in range(20):
        client.rpush("ballast", b"x" * ((most * 8 // 10 - used) // 20))
    post_until(api, 0, 503)
    answer = api.post("/v1/track", call(1))
    assert "70%" in answer.json["detail"]
    assert answer.headers["retry-after"] == "1"
    client.delete("ballast")
    post_until(api, 2, 200)


def test_a_store_that_refuses_the_append_is_reported(api: Live, tmp_path: Path) -> None:
    """Out of memory between two looks: 503, and neither entry nor count is there."""
    log = Log(Settings(home=tmp_path))
    log.client.config_set("maxmemory", 1)
    answer = api.post("/v1/track", call(0))
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    log.client.config_set("maxmemory", 0)
    assert (log.events(), log.accepted()) == ([], 0)


def test_an_open_stream_does_not_hold_up_the_end(server: Embedded, tmp_path: Path) -> None:
    """SIGTERM ends streams at once and without a word in the log."""
    with live(Settings(home=tmp_path, partitions=4)) as running:
        stream = http.client.HTTPConnection("127.0.0.1", running.port)
        stream.request("GET", "/v1/alerts/stream", headers=running.login)
        answer = stream.getresponse()
        assert answer.status == 200
        running.process.terminate()
        assert running.process.wait(10) == 0
        with pytest.raises(http.client.IncompleteRead):
            answer.read()
        stream.close()


def test_a_told_end_is_quick_and_finishes_what_is_under_way(server: Embedded, tmp_path: Path) -> None:
    """SIGTERM under load: gone within two seconds, and what was acknowledged is stored."""
    settings = Settings(home=tmp_path, partitions=4)
    acknowledged: list[str] = []
    with live(settings) as running:

        def client() -> None:
            try:
                while running.post("/v1/track", call(len(acknowledged))).status == 200:
                    acknowledged.append(f"m{len(acknowledged)}")
            except (OSError, http.client.HTTPException):
                return

        thread = threading.Thread(target=client)
        thread.start()
        time.sleep(0.5)
        began = time.monotonic()
        running.process.terminate()
        assert running.process.wait(10) == 0
        assert time.monotonic() - began < 2
        thread.join()
    assert acknowledged
    assert set(acknowledged) <= {event.json["messageId"] for event in Log(settings).events()}


class Gone(Connection):
    """A connection whose server goes away while it should answer."""

    def __init__(self) -> None:
        pass

    async def call(self, commands: Sequence[bytes]) -> list[Any]:
        raise Lost("the store went away: it closed the connection")


def waited_for() -> Group:
    group = Group()
    group.waiting.append(asyncio.get_running_loop().create_future())
    return group


def test_a_store_that_goes_away_is_said_once(tmp_path: Path) -> None:
    """And that nobody knows whether the append took place."""

    async def said() -> str:
        group = waited_for()
        with pytest.raises(Lost):
            await Appender(Settings(home=tmp_path), Vocabulary(), Store(1, "wall", 1))._commit(Gone(), group)
        return str(group.waiting[0].exception())

    assert asyncio.run(said()) == (
        "the store went away: it closed the connection; whether the events were stored is not known"
    )


def test_nobody_waits_for_an_append_that_never_began(tmp_path: Path) -> None:
    """The second append is cancelled, by the failure of the first, before its first step."""

    async def answers() -> list[bool]:
        appender = Appender(Settings(home=tmp_path), Vocabulary(), Store(1, "wall", 1))
        groups = [waited_for(), waited_for()]
        appender._groups.extend(groups)
        appender._wake.set()
        with pytest.raises(ExceptionGroup):
            await appender._commit_all(Gone())
        return [isinstance(group.waiting[0].exception(), Unavailable) for group in groups if group.waiting[0].done()]

    assert asyncio.run(answers()) == [True, True]
