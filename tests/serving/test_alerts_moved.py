"""Alerts moved over HTTP, one by one and many at once, and who moved them."""

from __future__ import annotations

import threading
import time

import msgspec

from feature_repo import keys
from flows.alert import Alert
from tests.live import Answer, Live
from tests.serving.alert_desk import Desk, Mirror, api, client, desk, shared, store

__all__ = ["api", "client", "desk", "shared", "store"]


def patch(api: Live, path: str, message: object) -> Answer:
    body = message if isinstance(message, bytes) else msgspec.json.encode(message)
    return api.ask("PATCH", path, body, {**api.login, "Content-Type": "application/json"})


def move(api: Live, alert: Alert, status: str, **more: object) -> Answer:
    return patch(api, f"/v1/alerts/{alert.id}/status", {"status": status, **more})


def test_an_alert_goes_its_way(api: Live, desk: Desk) -> None:
    """Each answer is the alert as it then stands; the history has who, when, from where, to where and why."""
    (alert,) = desk.add(1)
    desk.move("DELIVERED", alert, who="in-app")
    assert move(api, alert, "ACKNOWLEDGED", by="ann").json["status"] == "ACKNOWLEDGED"
    shown = move(api, alert, "DISMISSED", why="sold already")
    assert (shown.status, shown.json) == (200, api.ask("GET", f"/v1/alerts/{alert.id}").json)
    told = api.ask("GET", f"/v1/alerts/{alert.id}/history").json
    assert told["id"] == alert.id
    assert [(s["from_status"], s["status"], s["by"], s["why"]) for s in told["steps"]] == [
        ("PENDING", "DELIVERED", "in-app", None),
        ("DELIVERED", "ACKNOWLEDGED", "ann", None),
        ("ACKNOWLEDGED", "DISMISSED", desk.organisation, "sold already"),
    ]
    assert told["steps"][-1]["status_at"] == shown.json["status_at"]


def test_a_step_that_is_not_allowed_is_refused(api: Live, desk: Desk) -> None:
    """409, which says where the alert stands and where it may go; nothing has changed."""
    (alert,) = desk.add(1)
    refused = move(api, alert, "CONVERTED")
    assert (refused.status, refused.json["field"]) == (409, "status")
    assert refused.json["detail"] == "the alert is PENDING, which may become DELIVERED, EXPIRED"
    assert api.ask("GET", f"/v1/alerts/{alert.id}/history").json["steps"] == []


def test_the_same_step_again_is_answered_the_same(api: Live, desk: Desk) -> None:
    """So a client that did not hear the answer may ask again; the history has the step once."""
    (alert,) = desk.add(1)
    first, again = move(api, alert, "DELIVERED"), move(api, alert, "DELIVERED", by="somebody else")
    assert (again.status, again.json) == (200, first.json)
    assert len(api.ask("GET", f"/v1/alerts/{alert.id}/history").json["steps"]) == 1


def test_many_move_each_for_itself(api: Live, desk: Desk) -> None:
    """One result for each id, in their order; those that may not go say why."""
    one, two, theirs = desk.add(1, 2) + desk.add(3, organisation="other")
    desk.move("DELIVERED", one)
    ids = [two.id, one.id, theirs.id, one.id]
    answer = patch(api, "/v1/alerts/status", {"ids": ids, "status": "ACKNOWLEDGED", "by": "ann"}).json
    assert answer["moved"] == 1
    assert [(r["id"], r["done"], r["status"]) for r in answer["results"]] == [
        (two.id, False, "PENDING"),
        (one.id, True, "ACKNOWLEDGED"),
        (theirs.id, False, None),
        (one.id, True, "ACKNOWLEDGED"),
    ]
    assert [r["detail"] for r in answer["results"]][::2] == [
        "the alert is PENDING, which may become DELIVERED, EXPIRED",
        "there is no such alert",
    ]


def test_a_thousand_move_at_once(api: Live, desk: Desk) -> None:
    """As many as a request may name, in one go; one more is refused, and nothing of it is done."""
    alerts = desk.add(*range(1_000))
    assert patch(api, "/v1/alerts/status", {"ids": ["x"] * 1_001, "status": "EXPIRED"}).status == 422
    ids = [alert.id for alert in alerts]
    assert patch(api, "/v1/alerts/status", {"ids": ids, "status": "EXPIRED"}).json["moved"] == 1_000


def test_other_organisations_alerts_cannot_be_moved(api: Live, desk: Desk) -> None:
    """They do not exist for this key: neither status nor history."""
    (theirs,) = desk.add(1, organisation="other")
    assert move(api, theirs, "DELIVERED").status == 404
    assert api.ask("GET", f"/v1/alerts/{theirs.id}/history").status == 404
    stored = desk.store.find(theirs.id)
    assert stored is not None
    assert stored.status == "PENDING"


def test_what_cannot_be_read_is_named(api: Live, desk: Desk) -> None:
    """422 with the field."""
    (alert,) = desk.add(1)
    path = f"/v1/alerts/{alert.id}/status"
    for body, field in (
        ({"status": "SOLD"}, "status"),
        ({}, "status"),
        ({"status": "EXPIRED", "by": "a" * 201}, "by"),
        ({"status": "EXPIRED", "by": ""}, "by"),
        ({"status": "EXPIRED", "who": "ann"}, "who"),
        (b"[" * 100_000, "body"),
        (b"\xff", "body"),
    ):
        answer = patch(api, path, body)
        assert answer.status == 422, body
        assert field in answer.json["field"] + answer.json["detail"], answer.json


def test_of_many_who_move_at_once_one_step_is_told(api: Live, desk: Desk) -> None:
    """Twenty people acknowledge and dismiss the same alert: the history is a way that is allowed."""
    (alert,) = desk.add(1)
    desk.move("DELIVERED", alert)
    answers: list[int] = []

    def go(n: int) -> None:
        status = ("ACKNOWLEDGED", "DISMISSED", "EXPIRED")[n % 3]
        answers.append(move(api, alert, status, by=f"p{n}").status)

    people = [threading.Thread(target=go, args=(n,)) for n in range(20)]
    for person in people:
        person.start()
    for person in people:
        person.join()
    steps = api.ask("GET", f"/v1/alerts/{alert.id}/history").json["steps"]
    way = [step["from_status"] for step in steps] + [steps[-1]["status"]]
    assert way in (
        ["PENDING", "DELIVERED", "DISMISSED"],
        ["PENDING", "DELIVERED", "EXPIRED"],
        ["PENDING", "DELIVERED", "ACKNOWLEDGED", "DISMISSED"],
        ["PENDING", "DELIVERED", "ACKNOWLEDGED", "EXPIRED"],
    )
    assert set(answers) <= {200, 409}


def test_listeners_hear_of_it_at_once(api: Live, desk: Desk) -> None:
    """A step over HTTP reaches the live feed without waiting for the next look at SQL."""
    page, (alert,) = Mirror(api), desk.add(1)
    desk.move("DELIVERED", alert)
    page.until({})
    began = time.monotonic()
    threading.Timer(0.05, move, (api, alert, "DISMISSED")).start()
    page.until({alert.id: "DISMISSED"})
    assert time.monotonic() - began < 1.0


def test_a_persons_alerts(api: Live, desk: Desk) -> None:
    """Theirs alone, narrowed and paged as the list of all is."""
    desk.add(1, 2)
    (second,) = [desk.made(1, type="LIKELY_TO_BUY")]
    second = msgspec.structs.replace(second, id="al_second")
    desk.store.insert([second])
    path = "/v1/users/u1/alerts"
    assert [a["user"] for a in api.ask("GET", path).json["alerts"]] == ["u1", "u1"]
    assert [a["id"] for a in api.ask("GET", f"{path}?type=LIKELY_TO_BUY").json["alerts"]] == ["al_second"]
    page = api.ask("GET", f"{path}?limit=1").json
    assert [a["id"] for a in api.ask("GET", f"{path}?cursor={page['next']}").json["alerts"]] != page["alerts"][0]["id"]
    assert api.ask("GET", "/v1/users/nobody/alerts").json == {"alerts": [], "next": None}
    assert api.ask("GET", f"{path}?user=u2").json["field"] == "user"


def test_a_step_is_told_by_the_logs_time(api: Live, desk: Desk) -> None:
    """Where the store takes its time from events, a step happens when its newest entry did."""
    desk.client.xadd(keys.log(0), {"e": b""}, id="1700000000000-1")
    (alert,) = desk.add(1)
    time.sleep(0.06)  # as long as a time once read is believed
    assert move(api, alert, "DELIVERED").json["status_at"] == 1_700_000_000_000
