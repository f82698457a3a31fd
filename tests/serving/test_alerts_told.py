"""What became of alerts, told over HTTP, and the statistics over it."""

from __future__ import annotations

from typing import Any

import pytest

from flows.alert import Alert
from tests.live import Answer, Live
from tests.serving.alert_desk import Desk, Mirror, api, client, desk, shared, store

__all__ = ["api", "client", "desk", "shared", "store"]
SOLD = {"outcome": "TRUE_POSITIVE", "converted": True, "value": 9000, "type": "sale", "at": 5_000_000, "by": "ann"}


def tell(api: Live, alert: Alert, **told: Any) -> Answer:
    return api.post(f"/v1/alerts/{alert.id}/outcome", told)


def test_an_outcome_is_kept_as_it_was_told(api: Live, desk: Desk) -> None:
    """The same again is answered the same; the alert has converted, step by step; nobody told of the others."""
    alert, other = desk.add(1, 2)
    answer = tell(api, alert, **SOLD, feedback="called at noon", notes="n")
    assert answer.status == 200
    latest = answer.json["latest"]
    assert {name: latest[name] for name in SOLD} == SOLD
    assert (latest["feedback"], latest["corrects"]) == ("called at noon", None)
    assert answer.json["status"] == "CONVERTED"
    assert tell(api, alert, **SOLD, feedback="called at noon", notes="n").json == answer.json
    assert api.ask("GET", f"/v1/alerts/{alert.id}/outcome").json == answer.json
    steps = api.ask("GET", f"/v1/alerts/{alert.id}/history").json["steps"]
    assert [(s["status"], s["by"]) for s in steps] == [
        ("DELIVERED", "ann"),
        ("ACKNOWLEDGED", "ann"),
        ("CONVERTED", "ann"),
    ]
    assert api.ask("GET", f"/v1/alerts/{other.id}/outcome").status == 404


def test_told_otherwise_it_is_a_correction(api: Live, desk: Desk) -> None:
    """The latest counts and names the record that it corrects, which stays."""
    (alert,) = desk.add(1)
    first = tell(api, alert, outcome="TRUE_POSITIVE").json["latest"]
    answer = tell(api, alert, outcome="FALSE_POSITIVE", notes="it was the neighbour").json
    assert answer["latest"]["corrects"] == first["number"]
    assert answer["latest"]["by"] == desk.organisation
    assert answer["corrected"] == [first]


@pytest.mark.parametrize(
    ("told", "field"),
    [
        ({}, "outcome"),
        ({"outcome": "SOLD"}, "outcome"),
        ({"outcome": "FALSE_POSITIVE", "converted": True}, "converted"),
        ({"outcome": "TRUE_POSITIVE", "value": 5}, "value"),
        ({"outcome": "TRUE_POSITIVE", "converted": True, "value": 1e300}, "value"),
        ({"outcome": "TRUE_POSITIVE", "converted": True, "at": "yesterday"}, "at"),
        ({"outcome": "TRUE_POSITIVE", "converted": True, "at": 5}, "at"),
        ({"outcome": "TRUE_POSITIVE", "notes": "a\0b"}, "notes"),
        ({"outcome": "TRUE_POSITIVE", "convrted": True}, "convrted"),
    ],
)
def test_what_cannot_be_is_refused(api: Live, desk: Desk, told: dict[str, Any], field: str) -> None:
    """422 that names the field, and nothing is recorded: contradictions, and times before the score, too."""
    (alert,) = desk.add(1)
    answer = tell(api, alert, **told)
    assert answer.status == 422
    assert field in answer.json["field"] + answer.json["detail"]
    assert api.ask("GET", f"/v1/alerts/{alert.id}/outcome").status == 404


def test_many_are_told_at_once(api: Live, desk: Desk) -> None:
    """One result for each id; other organisations' alerts do not exist; listeners hear of the steps."""
    page, one, two, theirs = Mirror(api), *desk.add(1, 2), *desk.add(3, organisation="other")
    page.until({})
    body = {"ids": [one.id, theirs.id, two.id], **SOLD}
    answer = api.post("/v1/alerts/outcome", body).json
    assert answer["recorded"] == 2
    assert [(r["id"], r["done"], r["status"]) for r in answer["results"]] == [
        (one.id, True, "CONVERTED"),
        (theirs.id, False, None),
        (two.id, True, "CONVERTED"),
    ]
    page.until({one.id: "CONVERTED", two.id: "CONVERTED"})
    assert api.post("/v1/alerts/outcome", body).json["recorded"] == 0


def test_other_organisations_cannot_tell(api: Live, desk: Desk) -> None:
    """404, for reading too."""
    (theirs,) = desk.add(1, organisation="other")
    assert tell(api, theirs, outcome="TRUE_POSITIVE").status == 404
    assert api.ask("GET", f"/v1/alerts/{theirs.id}/outcome").status == 404


def test_statistics_say_what_came_of_it(api: Live, desk: Desk) -> None:
    """Of this organisation's alerts, between the dates, with what each group brought."""
    day = 86_400_000
    alerts = desk.add(*range(10), scored_at=3 * day) + desk.add(10, scored_at=5 * day, type="LIKELY_TO_BUY")
    desk.add(11, scored_at=3 * day, withheld=True)
    desk.add(12, scored_at=3 * day, organisation="other")
    desk.move("DELIVERED", *alerts[:5])
    tell(api, alerts[0], outcome="TRUE_POSITIVE", converted=True, value=500, at=3 * day + 7_200_000)
    tell(api, alerts[1], outcome="FALSE_POSITIVE")
    found = api.ask("GET", "/v1/alerts/stats?until=1970-01-05").json
    assert (found["totals"]["alerts"], found["withheld"]["alerts"]) == (10, 1)
    assert found["by_status"] | {"PENDING": 5} == found["by_status"]
    assert found["by_type"]["LIKELY_TO_SELL"]["conversion"]["share"] == 0.1
    assert found["totals"]["precision"]["share"] == 0.5
    assert 0 < found["totals"]["precision"]["low"] < 0.5 < found["totals"]["precision"]["high"] < 1
    assert found["totals"]["revenue"]["amount"] == 500
    assert found["totals"]["hours_to_conversion"]["amount"] == 2
    assert found["totals"]["return_on_cost"] is None
    assert found["queue"] == {"waiting": 0, "active": 0, "done": 0, "failed": 0, "dead": 0}
    assert (found["load"]["budget"], found["load"]["active_people"]) == (0.1, 0)
    assert api.ask("GET", "/v1/alerts/stats?type=LIKELY_TO_BUY").json["totals"]["alerts"] == 1
    (version,) = api.ask("GET", "/v1/models/performance?until=1970-01-05").json["versions"]
    assert (version["model"], version["alerts"], version["observed"]["share"]) == ("likely_to_sell", 11, 0.5)


def test_dates_that_cannot_be_read_are_named(api: Live) -> None:
    """400 with the parameter."""
    for query, field in (("since=soon", "since"), ("since=5&until=4", "until"), ("type=X", "type"), ("day=1", "day")):
        answer = api.ask("GET", f"/v1/alerts/stats?{query}")
        assert (answer.status, answer.json["field"]) == (400, field)
