"""Alerts in the SQL of a running API, as the drain leaves them there, and readers of what it tells of them."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
import redis

from feature_repo import keys
from feature_repo.settings import Settings
from feature_repo.vocabulary import Vocabulary
from flows import alert_status
from flows.alert import Alert, Status, alert_id
from flows.alert_store import AlertStore, open_alerts
from flows.embedded import Embedded
from flows.store import connect
from serving.alert_shown import ShownAlert, shower
from tests.flows.made_alerts import alert
from tests.live import Live, live

VOCABULARY = Vocabulary()
decode = msgspec.json.Decoder(ShownAlert).decode
shown = shower(VOCABULARY)


@pytest.fixture(scope="module")
def shared(empty_valkey: Embedded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """One API for the module; its organisations keep the tests apart."""
    home = tmp_path_factory.mktemp("alerts")
    with live(
        Settings(home=home, redis_url=f"unix://{empty_valkey.where.socket}", partitions=4, clock="log")
    ) as running:
        yield running


@pytest.fixture
def store(shared: Live) -> Iterator[AlertStore]:
    opened = open_alerts(shared.settings)
    yield opened
    opened.close()


@pytest.fixture
def client(shared: Live) -> Iterator[redis.Redis]:
    """Of the API's store, left as it is."""
    with connect(shared.settings) as opened:
        yield opened


@pytest.fixture
def api(shared: Live, client: redis.Redis, request: pytest.FixtureRequest) -> Live:
    """The shared API, asked with the key of an organisation of the test's own."""
    client.hset(keys.KEYS, request.node.name, f"of {request.node.name}")
    mine = Live(shared.settings, shared.process)
    mine.login = {"Authorization": "Basic " + base64.b64encode(f"{request.node.name}:".encode()).decode()}
    return mine


class Desk:
    """Stores alerts as the drain does."""

    def __init__(self, store: AlertStore, client: redis.Redis, organisation: str) -> None:
        self.store, self.client, self.organisation = store, client, organisation

    def add(self, *numbers: int, **changes: Any) -> list[Alert]:
        made = [self.made(n, **changes) for n in numbers]
        head = self.store.insert(made)
        self.client.publish(keys.ALERTS_STORED, head)
        return made

    def move(self, to: Status, *these: Alert, who: str = "ann", why: str | None = None) -> None:
        with self.store.engine.begin() as connection:
            alert_status.move(connection, [one.id for one in these], to, who=who, at=5, why=why)
        self.client.publish(keys.ALERTS_MOVED, "")

    def made(self, n: int, **changes: Any) -> Alert:
        changes = {"organisation": self.organisation} | changes
        return alert(n, **changes, id=alert_id(changes["organisation"], f"u{n}", self.organisation, f"{n}-0"))


@pytest.fixture
def desk(store: AlertStore, client: redis.Redis, request: pytest.FixtureRequest) -> Desk:
    return Desk(store, client, f"of {request.node.name}")


class Events:
    """A reader of server-sent events, written from the specification's grammar."""

    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self.answer = answer
        self.last = ""

    def next(self) -> ShownAlert:
        return decode(self.data())

    def data(self) -> str:
        """Of the next event; comments and other fields are passed over."""
        data = ""
        while True:
            line = self.answer.readline().decode().rstrip("\n")
            name, _, value = line.partition(":")
            if name == "id":
                self.last = value.strip()
            elif name == "data":
                data += value.strip()
            elif not line and data:
                return data

    def users(self, count: int) -> list[str]:
        return [self.next().user for _ in range(count)]


@contextmanager
def stream(api: Live, path: str = "/v1/alerts/stream", **headers: str) -> Iterator[Events]:
    connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=10)
    try:
        connection.request("GET", path, headers=api.login | {k.replace("_", "-"): v for k, v in headers.items()})
        answer = connection.getresponse()
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        assert answer.readline() == b"retry: 1000\n"  # from here on it listens
        events = Events(answer)
        events.last = answer.readline().decode().removeprefix("id:").strip()
        yield events
    finally:
        connection.close()


class Mirror:
    """What a page keeps: each alert's latest status, from the events as they come, whatever they are."""

    def __init__(self, api: Live, query: str = "") -> None:
        self.api, self.query, self.last = api, query, ""
        self.status: dict[str, str] = {}

    def until(self, wanted: dict[str, str]) -> None:
        """Listens until it shows what is wanted; a time-out says what it shows instead."""
        more = {"Last_Event_ID": self.last} if self.last else {}
        with stream(self.api, f"/v1/alerts/stream?steps=true{self.query}", **more) as events:
            while self.status != wanted:
                told = json.loads(events.data())
                self.status[told["id"]] = told["status"]
            self.last = events.last
