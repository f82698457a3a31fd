"""Alerts over HTTP, from the real API: listed, paged, streamed, each to its own organisation."""

from __future__ import annotations

import base64
import http.client
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis

from feature_repo import keys
from feature_repo.settings import Settings
from feature_repo.vocabulary import Vocabulary
from flows.alert import Alert, alert_id
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
def shared(valkey: Embedded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """One API for the module; its organisations keep the tests apart."""
    home = tmp_path_factory.mktemp("alerts")
    with live(Settings(home=home, redis_url=f"unix://{valkey.where.socket}", partitions=4, clock="log")) as running:
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
        """The next event; comments and other fields are passed over."""
        data = ""
        while True:
            line = self.answer.readline().decode().rstrip("\n")
            name, _, value = line.partition(":")
            if name == "id":
                self.last = value.strip()
            elif name == "data":
                data += value.strip()
            elif not line and data:
                return decode(data)

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
        yield Events(answer)
    finally:
        connection.close()


def users(page: Any) -> list[str]:
    return [a["user"] for a in page["alerts"]]


def test_an_alert_is_told_whole(api: Live, desk: Desk) -> None:
    """By id and in the list it is the alert as stored, features and reasons with it."""
    (stored,) = desk.add(1, reasons=["home values looked up: 7 (30 d)"], stored_at=9)
    assert decode(api.ask("GET", f"/v1/alerts/{stored.id}").body) == shown(stored)
    page = api.ask("GET", "/v1/alerts").json
    assert page["next"] is None
    assert page["alerts"] == [api.ask("GET", f"/v1/alerts/{stored.id}").json]


def test_features_have_their_names(api: Live, desk: Desk) -> None:
    """By id, in the list and in the stream; places stand for names where the model's list is another one by now."""
    names = next(s.features for s in VOCABULARY.services if s.name == "likely_to_sell")
    values = [float(n) for n in range(len(names))]
    with stream(api) as events:
        new, old = desk.add(1, features=values) + desk.add(2, features=[5.0, 7.0])
        assert events.next().features == dict(zip(names, values, strict=True))
        assert events.next().features == {"0": 5.0, "1": 7.0}
    assert api.ask("GET", f"/v1/alerts/{new.id}").json["features"]["property_count"] == names.index("property_count")
    assert [a["features"] for a in api.ask("GET", "/v1/alerts?user=u2").json["alerts"]] == [{"0": 5.0, "1": 7.0}]
    assert desk.store.find(old.id) == old  # stored as before


def test_a_type_that_does_not_exist_is_refused(api: Live) -> None:
    """With the names of those that do."""
    for path in ("", "/stream"):
        answer = api.ask("GET", f"/v1/alerts{path}?type=LIKELY_TO_SEL")
        assert (answer.status, answer.json["field"]) == (400, "type")
        for service in (s for s in VOCABULARY.services if s.alert):
            assert str(service.alert) in answer.json["detail"]


def test_pages_show_each_once_while_new_ones_arrive(api: Live, desk: Desk) -> None:
    """Following `next` meets each alert that was there at the start exactly once."""
    desk.add(*range(25))
    seen, cursor = [], ""
    while True:
        page = api.ask("GET", f"/v1/alerts?limit=4{cursor}").json
        seen += users(page)
        desk.add(100 + len(seen))  # scored later: before the first page
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert seen == [f"u{n}" for n in reversed(range(25))]


def test_filters_join(api: Live, desk: Desk) -> None:
    """Each parameter narrows; times are ISO 8601 or ms."""
    desk.add(1, type="LIKELY_TO_BUY", scored_at=1_700_000_000_000)
    desk.add(2, priority="LOW", score=0.45, scored_at=1_700_000_001_000)
    desk.add(3)
    for query, expected in {
        "type=LIKELY_TO_BUY": ["u1"],
        "priority=LOW": ["u2"],
        "user=u3": ["u3"],
        "min_score=0.5": ["u1", "u3"],
        "since=1700000001000": ["u2"],
        "since=2023-11-14T22:13:20Z&until=2023-11-14T22:13:21Z": ["u1"],
        "since=2023-11-14T22:13:20&type=LIKELY_TO_SELL": ["u2"],
    }.items():
        assert users(api.ask("GET", f"/v1/alerts?{query}").json) == expected, query


def test_a_wrong_parameter_is_named(api: Live) -> None:
    """400 as problem+json, with the parameter as its field."""
    for path, field in (
        ("?priority=URGENT", "priority"),
        ("?limit=0", "limit"),
        ("?limit=501", "limit"),
        ("?cursor=abc", "cursor"),
        ("?cursor=5", "cursor"),
        ("?cursor=5-99999999999999999999", "cursor"),
        ("?since=yesterday", "since"),
        ("?until=99999999999999999999", "until"),
        ("?min_score=NaN", "min_score"),
        ("?min_score=2", "min_score"),
        ("?kind=LIKELY_TO_SELL", "kind"),
        ("/stream?after=-1", "after"),
        ("/stream?since=5", "since"),
    ):
        answer = api.ask("GET", f"/v1/alerts{path}")
        assert (answer.status, answer.json["field"]) == (400, field), path
        assert answer.headers["content-type"] == "application/problem+json"


def test_other_organisations_alerts_do_not_exist(api: Live, desk: Desk) -> None:
    """Neither in the list, nor by id, nor in the stream."""
    (theirs,) = desk.add(1, organisation="other")
    assert api.ask("GET", "/v1/alerts").json == {"alerts": [], "next": None}
    assert api.ask("GET", f"/v1/alerts/{theirs.id}").status == 404
    with stream(api, "/v1/alerts/stream?after=0") as events:
        desk.add(2, organisation="other")
        desk.add(3)
        assert events.users(1) == ["u3"]


def test_a_key_is_needed(api: Live) -> None:
    """Without one, 401 on all three."""
    for path in ("", "/al_1", "/stream"):
        assert api.ask("GET", f"/v1/alerts{path}", headers={}).status == 401


def test_the_stream_brings_what_is_new_at_once(api: Live, desk: Desk) -> None:
    """Without a place to go on from it begins with the next alert, well within a quarter of a second."""
    desk.add(1)
    with stream(api) as events:
        began = time.monotonic()
        (new,) = desk.add(2)
        assert events.next() == shown(new)
        assert time.monotonic() - began < 0.25


def test_the_stream_resumes_without_loss(api: Live, desk: Desk) -> None:
    """A client that drops again and again meets each alert once, in order, those of its absence too."""
    desk.add(0)
    met: list[str] = []
    last, n = "0", 1
    for _ in range(4):
        with stream(api, Last_Event_ID=last) as events:
            desk.add(n)
            met += events.users(n + 1 - len(met))
            last = events.last
        desk.add(n + 1, n + 2)
        n += 3
    with stream(api, Last_Event_ID=last) as events:
        met += events.users(n - len(met))
    assert met == [f"u{i}" for i in range(n)]


def test_a_client_far_behind_catches_up(api: Live, desk: Desk) -> None:
    """What is no longer in memory comes from SQL, and joins what is new without a gap."""
    desk.add(*range(2_500))
    with stream(api, "/v1/alerts/stream?after=0") as events:
        met = events.users(300)
        desk.add(2_500)
        met += events.users(2_201)
    assert met == [f"u{i}" for i in range(2_501)]


def test_the_stream_is_filtered(api: Live, desk: Desk) -> None:
    """A listener to one type, or one person, hears of no other."""
    with stream(api, "/v1/alerts/stream?type=LIKELY_TO_BUY") as buying, stream(api, "/v1/alerts/stream?user=u3") as one:
        desk.add(1)
        desk.add(2, type="LIKELY_TO_BUY")
        desk.add(3)
        assert buying.users(1) == ["u2"]
        assert one.users(1) == ["u3"]


def test_many_listeners_hear_the_same(api: Live, desk: Desk) -> None:
    """Each of 50 listeners gets each alert once, in order."""
    with ExitStack() as open_:
        listeners = [open_.enter_context(stream(api)) for _ in range(50)]
        desk.add(1, 2)
        desk.add(3)
        assert [listener.users(3) for listener in listeners] == [["u1", "u2", "u3"]] * 50


def test_an_announcement_missed_is_made_up_for(api: Live, desk: Desk) -> None:
    """An alert that was stored while nobody could say so comes within a few seconds."""
    with stream(api) as events:
        desk.store.insert([desk.made(1)])
        assert events.users(1) == ["u1"]


def test_another_api_goes_on_where_one_ended(shared: Live, api: Live, desk: Desk) -> None:
    """The number of the last event means the same to the next process."""
    with stream(api) as events:
        desk.add(1)
        events.users(1)
        last = events.last
    desk.add(2)
    with live(shared.settings) as other:
        other.login = api.login
        with stream(other, Last_Event_ID=last) as events:
            assert events.users(1) == ["u2"]


def test_sql_down_is_said(settings: Settings, tmp_path: Path) -> None:
    """503 with Retry-After while there is no database, in the stream too; when it is there, answers."""
    place = tmp_path / "not yet"
    settings = msgspec.structs.replace(settings, database_url=f"sqlite:///{place / 'alerts.db'}")
    with live(settings) as api:
        for path in ("/v1/alerts", "/v1/alerts/al_1", "/v1/alerts/stream"):
            answer = api.ask("GET", path)
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        place.mkdir()
        assert api.ask("GET", "/v1/alerts").json == {"alerts": [], "next": None}
