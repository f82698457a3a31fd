"""Alerts over HTTP, from the real API: listed, paged, streamed, each to its own organisation."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from feature_repo.settings import Settings
from flows.alert import Alert
from tests.live import Live, live
from tests.serving.alert_desk import (
    VOCABULARY,
    Desk,
    Mirror,
    api,
    client,
    decode,
    desk,
    shared,
    shown,
    store,
    stream,
)

__all__ = ["api", "client", "desk", "shared", "store"]


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
        "status=PENDING&priority=HIGH": ["u1", "u3"],
        "status=DISMISSED": [],
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
        ("/stream?after=1.2.3", "after"),
        ("/stream?since=5", "since"),
        ("?status=OPEN", "status"),
        ("?withheld=maybe", "withheld"),
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


def test_steps_are_told_to_those_who_want_them(api: Live, desk: Desk) -> None:
    """As events of their own, with who and why; a client that did not ask for them hears of alerts alone."""
    with stream(api, "/v1/alerts/stream?steps=true") as wants, stream(api) as plain:
        (first,) = desk.add(1)
        assert json.loads(wants.data())["status"] == "PENDING"
        desk.move("DELIVERED", first, who="in-app", why="it was routed")
        step = {"from_status": "PENDING", "status": "DELIVERED", "status_at": 5, "by": "in-app", "why": "it was routed"}
        assert json.loads(wants.data()) == {"id": first.id, "user": "u1", "type": first.type, **step}
        desk.add(2)
        assert plain.users(2) == ["u1", "u2"]
        assert plain.last.isdecimal()


def test_whoever_drops_and_resumes_ends_with_the_status_that_holds(api: Live, desk: Desk) -> None:
    """Cut off after any event, told of alerts and steps that came meanwhile: what it shows is what stands."""
    page, alerts, stands = Mirror(api), list[Alert](), dict[str, str]()
    page.until({})
    for turn in range(6):
        alerts += desk.add(2 * turn, 2 * turn + 1)
        desk.move("DELIVERED", *alerts)
        stands = {a.id: "DELIVERED" for a in alerts} | stands
        gone = alerts[turn]
        desk.move("DISMISSED", gone)
        stands[gone.id] = "DISMISSED"
        page.until(stands)


def test_a_status_that_moved_long_ago_is_told_to_whoever_comes_late(api: Live, desk: Desk) -> None:
    """Beyond what is kept in memory alerts come with the status they have, and steps come from SQL."""
    alerts = desk.add(*range(2_100))
    page = Mirror(api)
    with stream(api, "/v1/alerts/stream?steps=true&after=0") as events:
        events.users(1)
        page.last = events.last
    desk.move("DELIVERED", *alerts[:900])
    desk.move("DELIVERED", *alerts[900:])
    desk.move("ACKNOWLEDGED", *alerts[:300])
    page.status = {alerts[0].id: "PENDING"}
    page.until({a.id: "ACKNOWLEDGED" if n < 300 else "DELIVERED" for n, a in enumerate(alerts)})


def test_steps_are_filtered(api: Live, desk: Desk) -> None:
    """By what is known of the alert, and by the status that they lead to; other organisations' are not told."""
    with (
        stream(api, "/v1/alerts/stream?steps=true&type=LIKELY_TO_BUY") as buying,
        stream(api, "/v1/alerts/stream?steps=true&status=DELIVERED") as delivered,
    ):
        alerts = desk.add(1) + desk.add(2, type="LIKELY_TO_BUY") + desk.add(3, organisation="other")
        desk.move("EXPIRED", alerts[1])
        desk.move("DELIVERED", *alerts)
        assert [json.loads(buying.data())["status"] for _ in range(2)] == ["PENDING", "EXPIRED"]
        assert json.loads(delivered.data())["user"] == "u1"


def test_withheld_alerts_are_shown_only_when_asked_for(api: Live, desk: Desk) -> None:
    """Neither list nor stream has them, unless it has them alone; by id they can be looked at."""
    with stream(api) as plain, stream(api, "/v1/alerts/stream?withheld=true") as kept:
        held = desk.add(1, withheld=True)[0]
        desk.add(2)
        assert plain.users(1) == ["u2"]
        assert kept.users(1) == ["u1"]
    assert users(api.ask("GET", "/v1/alerts").json) == ["u2"]
    assert users(api.ask("GET", "/v1/alerts?withheld=true").json) == ["u1"]
    assert api.ask("GET", f"/v1/alerts/{held.id}").json["withheld"] is True


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
