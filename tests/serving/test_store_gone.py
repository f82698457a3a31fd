"""A store that was emptied or restored older under a running API: nothing is acknowledged, and it says what is gone."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from feature_repo import keys
from feature_repo.settings import Settings
from flows.embedded import Embedded, embedded
from flows.high_mark import marked
from flows.store import connect
from serving.doctor import accept_losses
from serving.metrics_read import values
from tests.live import Answer, Live, live

PATIENCE = 20.0


@pytest.fixture(params=["wall", "log"])
def clock(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Embedded]:
    """A store of this test's own."""
    server = embedded(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def api(server: Embedded, clock: Any) -> Iterator[Live]:
    """In front of it."""
    settings = Settings(home=server.home, partitions=2, clock=clock, models=str(server.home))
    with closing(connect(settings)), live(settings) as running:
        yield running


def post(api: Live, n: int) -> Answer:
    call = {"type": "track", "event": "Document Viewed", "timestamp": "2026-03-01T12:00:00Z"}
    batch = [call | {"userId": f"u{i}", "messageId": f"m{n}-{i}"} for i in range(n)]
    return api.post("/v1/batch", {"batch": batch})


def problem(api: Live) -> str:
    answer = api.ask("GET", "/readyz")
    assert answer.status == 503
    return str(answer.json["detail"])


def soon(so: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def gone(api: Live) -> int:
    return int(sum(values(api.ask("GET", "/metrics").body.decode(), "telltale_events_gone")))


def test_an_emptied_store_takes_nothing_more(api: Live) -> None:
    """Whoever was let in is told so; a key that nobody knows gets no 401, after which clients would give up."""
    assert post(api, 7).status == 200
    with closing(connect(api.settings)) as client:
        client.flushall()
    for _ in range(3):
        assert post(api, 5).status == 503
    soon(lambda: "does not hold our store" in problem(api))
    assert "7 accepted events" in problem(api)
    assert gone(api) == 7
    answer = api.ask("POST", "/v1/batch", b"{}", {"Authorization": "Basic bm9ib2R5Og=="})
    assert answer.status == 503
    assert "does not hold our store" in answer.json["detail"]


def test_an_api_that_begins_makes_no_new_store_of_an_emptied_one(server: Embedded) -> None:
    """It answers, and says what is the matter to whoever has a key."""
    settings = Settings(home=server.home, partitions=2, models=str(server.home))
    with live(settings) as api:
        assert post(api, 7).status == 200
    with closing(connect(settings)) as client:
        client.flushall()
    with live(settings) as api:
        assert "does not hold our store" in api.ask("GET", "/readyz").json["detail"]
        assert post(api, 7).status == 503
        with closing(connect(settings)) as client:
            assert not client.exists(keys.STORE)


def test_a_store_restored_older_takes_nothing_until_the_loss_is_accepted(
    api: Live, server: Embedded, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also by an API that lived on; then it goes on by itself, and the loss stays counted."""
    assert post(api, 7).status == 200
    store, copy = server.home / "store", server.home / "copy"
    shutil.copytree(store, copy, ignore=shutil.ignore_patterns("*.sock"))
    assert post(api, 5).status == 200
    assert server.process is not None
    server.process.kill()
    server.process.wait()
    shutil.rmtree(store / "appendonlydir")
    (copy / "appendonlydir").rename(store / "appendonlydir")
    server.restart()
    soon(lambda: "went back in time" in problem(api))
    assert "5 accepted events" in problem(api)
    assert gone(api) == 5
    assert post(api, 3).status == 503
    assert accept_losses(api.settings) == 0
    assert "5 accepted events" in capsys.readouterr().out
    soon(lambda: post(api, 3).status == 200)
    assert "went back" not in problem(api)
    text = api.ask("GET", "/metrics").body.decode()
    assert sum(values(text, "telltale_events_lost_total")) == 5
    known = marked(server.home)
    assert known is not None
    assert sum(end.accepted for end in known.ends) == sum(values(text, "telltale_events_accepted_total"))


def test_one_partition_that_goes_back_under_us_is_noticed(api: Live) -> None:
    """By the next append, which is not acknowledged; once the newer one is back all goes on by itself."""
    assert post(api, 9).status == 200
    with closing(connect(api.settings)) as client:
        for p in range(2):
            client.hincrby(keys.counts(p), "accepted", -1)
    assert post(api, 9).status == 503
    soon(lambda: "went back in time" in problem(api))
    assert "2 accepted events" in problem(api)
    with closing(connect(api.settings)) as client:
        for p in range(2):
            client.hincrby(keys.counts(p), "accepted", 1)
    soon(lambda: post(api, 9).status == 200)
