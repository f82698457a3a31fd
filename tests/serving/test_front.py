"""What is not about events: health, metrics, the API's description, deadlines."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvicorn
from openapi_spec_validator import validate
from prometheus_client.parser import text_string_to_metric_families

from feature_repo import keys
from flows.progress import OUTCOMES
from serving import deadlines
from tests.live import Live, free_port
from tests.logged import Log


def series(api: Live) -> dict[str, dict[str, float]]:
    """Metric -> labels -> value, read by Prometheus' own parser."""
    answer = api.ask("GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(answer.body.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[",".join(sample.labels.values())] = sample.value
    return found


def test_accepted_is_what_was_worked_plus_the_lag(api: Live, log: Log) -> None:
    """For each partition, whatever the engine has counted so far."""
    for number in range(20):
        api.post("/v1/track", {"userId": f"metric-{number}", "event": "Document Viewed"})
    for partition in range(log.store.partitions):
        for i, name in enumerate(OUTCOMES):
            log.client.hincrby(keys.counts(partition), name, i % 2)
    found = series(api)
    for label, accepted in found["telltale_events_accepted_total"].items():
        worked = sum(found[f"telltale_events_{name}_total"][label] for name in OUTCOMES)
        assert accepted == worked + found["telltale_events_lag"][label]
    assert sum(found["telltale_events_accepted_total"].values()) == log.accepted()
    for partition in range(log.store.partitions):
        log.client.hdel(keys.counts(partition), *OUTCOMES)


def test_lag_in_seconds_is_the_age_of_the_oldest_waiting_entry(api: Live, log: Log) -> None:
    """Zero once the position has reached the log's end."""
    api.post("/v1/track", {"userId": "lagging", "event": "Document Viewed"})
    partition = log.events("lagging")[0].partition
    last = log.client.xinfo_stream(keys.log(partition))["last-generated-id"]
    assert 0 < series(api)["telltale_lag_seconds"][str(partition)] < 600
    log.client.set(keys.position(partition), last)
    assert series(api)["telltale_lag_seconds"][str(partition)] == 0
    log.client.delete(keys.position(partition))


def test_what_the_engine_says_of_itself_is_shown(api: Live, log: Log) -> None:
    """With what it means."""
    told = {"a": {"events": 12, "cache_hits@3": 4, "stage_seconds_total:count@3": 1.5}, "b": {"events": 5}}
    for engine, said in told.items():
        speak(log, engine)
        log.client.hset(keys.gauges(engine), mapping=said)
    found = series(api)
    assert found["telltale_engine_events"] == {"a": 12, "b": 5}
    assert found["telltale_engine_cache_hits"] == {"a,3": 4}
    assert found["telltale_engine_stage_seconds_total"] == {"a,3,count": 1.5}
    assert found["telltale_engine_alive_at"]["b"] == pytest.approx(time.time(), abs=60)
    meaning = "people found in the engine's memory since it started"
    assert f"# HELP telltale_engine_cache_hits {meaning}\n" in api.ask("GET", "/metrics").body.decode()
    log.client.delete(keys.ENGINES, *map(keys.gauges, told))


def test_an_engine_that_died_tells_nothing_any_more(api: Live, log: Log) -> None:
    """But when it was last heard of."""
    speak(log, "a", ago=7)
    found = series(api)
    assert found["telltale_engine_alive_at"].keys() == {"a"}
    assert [name for name in found if name.startswith("telltale_engine_")] == ["telltale_engine_alive_at"]
    log.client.delete(keys.ENGINES)


def speak(log: Log, engine: str, ago: float = 0.0) -> None:
    """As the engine does each second."""
    log.client.hset(keys.ENGINES, engine, f"{(time.time() - ago) * 1000:.0f} 1")


def test_requests_are_counted_by_route_and_timed(api: Live) -> None:
    """Paths of people do not become series of their own."""
    before = series(api)["telltale_api_requests_total"].get("/v1/users/{user:path}/features,404", 0)
    for user in ("a", "b", "c/d"):
        api.ask("GET", f"/v1/users/{user}/features")
    found = series(api)
    assert found["telltale_api_requests_total"]["/v1/users/{user:path}/features,404"] == before + 3
    assert found["telltale_api_request_seconds_count"]["/v1/users/{user:path}/features"] >= 3


def test_ready_says_in_words_what_is_missing(api: Live, log: Log) -> None:
    """An engine for every partition, and a log that has not lost what state already contains."""
    answer = api.ask("GET", "/readyz")
    assert (answer.status, answer.headers["content-type"]) == (503, "application/problem+json")
    assert answer.json["problems"] == ["no engine works partitions 0, 1, 2, 3"]
    for partition in range(4):
        log.client.set(keys.lease(partition), "test", ex=60)
    assert api.ask("GET", "/readyz").json == {"status": "ok"}
    speak(log, "test", ago=65)
    (problem,) = api.ask("GET", "/readyz").json["problems"]
    assert "engine test has not been heard of for 6" in problem
    log.client.delete(keys.ENGINES)
    log.client.set(keys.position(2), "99999999999999-0")
    (problem,) = api.ask("GET", "/readyz").json["problems"]
    assert "partition 2" in problem
    log.client.delete(keys.position(2), *(keys.lease(p) for p in range(4)))


def test_ready_names_who_died_until_somebody_has_its_share(api: Live, log: Log) -> None:
    """Afterwards events become features again, whoever is dead."""
    log.client.mset({keys.lease(p): "b" for p in range(2)})
    speak(log, "a", ago=7)
    speak(log, "b")
    problems = api.ask("GET", "/readyz").json["problems"]
    assert problems[0] == "no engine works partitions 2, 3"
    assert re.match(r"the engine a has not been heard of for \d+ s", problems[1])
    log.client.mset({keys.lease(p): "b" for p in range(4)})
    assert api.ask("GET", "/readyz").json == {"status": "ok"}
    log.client.delete(keys.ENGINES, *map(keys.lease, range(4)))


def test_the_description_is_valid_openapi_and_covers_what_answers(api: Live) -> None:
    described = api.ask("GET", "/openapi.json").json
    validate(described)
    assert described["openapi"] == "3.1.0"
    for path in ("/v1/track", "/v1/batch", "/v1/t", "/v1/users/{id}/features", "/healthz", "/readyz", "/metrics"):
        assert path in described["paths"]
    assert described["components"]["schemas"]["Track"]["required"] == ["type", "event"]


def test_the_docs_need_nothing_from_outside(api: Live) -> None:
    """No script, no link to another host, and a policy that forbids both."""
    answer = api.ask("GET", "/docs")
    html = answer.body.decode()
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "<script" not in html
    assert not re.search(r"(src|href)=['\"]?(https?:)?//", html)
    assert "POST /v1/batch" in html


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Reads the whole body, then answers."""
    while (message := await receive()).get("more_body"):
        pass
    if message["type"] == "http.request":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


def talk(conversation: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bytes]]) -> bytes:
    """Has the conversation with a server that runs our protocol, in this process."""

    async def run() -> bytes:
        config = uvicorn.Config(
            echo, port=free_port(), http=deadlines.Protocol, ws="none", lifespan="off", log_level="error"
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        watching = asyncio.create_task(deadlines.watch(server.server_state.connections, 0.02))  # type: ignore[arg-type]
        while not server.started:  # noqa: ASYNC110 # uvicorn has no event for it
            await asyncio.sleep(0.01)
        reader, writer = await asyncio.open_connection("127.0.0.1", config.port)
        try:
            return await asyncio.wait_for(conversation(reader, writer), 10)
        finally:
            writer.close()
            watching.cancel()
            server.should_exit = True
            await serving

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"", b"408"),
        (b"POST / HTTP/1.1\r\nhost: x\r\n", b"408"),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabc", b"408"),
        (b"GET / HTTP/1.1\r\nhost: x\r\n\r\nGET / HTTP/1.1\r\nhost", b"200"),
        (b"POST / HTTP/1.1\r\nhost: x\r\n" + b"a: %b\r\n" % (b"b" * 2000) * 40, b"431"),
        (b"nonsense\r\n\r\n", b"400"),
    ],
    ids=["silent", "slow headers", "slow body", "slow second request", "endless headers", "no HTTP"],
)
def test_who_drips_is_disconnected(monkeypatch: pytest.MonkeyPatch, sent: bytes, status: bytes) -> None:
    """Slow headers and bodies end in a problem and a closed connection, not in one held for ever."""
    monkeypatch.setattr(deadlines, "HEAD_SECONDS", 0.2)
    monkeypatch.setattr(deadlines, "BODY_SECONDS", 0.2)

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(sent)
        return await reader.read(-1)

    answer = talk(drip)
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert status == b"200" or b"application/problem+json" in answer


def test_who_is_merely_idle_between_requests_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines are for requests begun, not for connections kept."""
    monkeypatch.setattr(deadlines, "HEAD_SECONDS", 0.1)

    async def twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        answer = b""
        for _ in range(2):
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            answer += await reader.readuntil(b"ok")
            await asyncio.sleep(0.3)
        return answer

    assert talk(twice).count(b"HTTP/1.1 200") == 2


def test_an_empty_line_keeps_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """It begins no request, so the wait for one has an end."""
    monkeypatch.setattr(deadlines, "HEAD_SECONDS", 0.2)

    async def sigh(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        answer = await reader.readuntil(b"ok")
        writer.write(b"\r\n")
        return answer + await reader.read(-1)

    assert talk(sigh).startswith(b"HTTP/1.1 200")
