"""Statistics and health, as the page tells them."""

from __future__ import annotations

import re
import time

import msgspec
import pytest
import sqlalchemy as sa

from feature_repo import keys
from flows.delivery_tables import deliveries
from flows.learning_tables import learners
from tests.logged import Log
from tests.serving.page_desk import Browser, Desk, text

DAY_MS = 86_400_000


def test_statistics_tell_what_came_of_alerts(browser: Browser, desk: Desk) -> None:
    """The API's figures, with their ranges; the columns add up to them."""
    made = desk.add(*range(8), scored_at=DAY_MS * 20_000)
    desk.add(8, scored_at=DAY_MS * 20_003)
    told = [("ids", one.id) for one in made[:4]]
    browser.post("/alerts/outcome", *told, ("outcome", "TRUE_POSITIVE"), ("converted", "true"), ("value", "1000"))
    browser.post("/alerts/outcome", ("ids", made[4].id), ("outcome", "FALSE_POSITIVE"))
    page = browser.get("/statistics?since=2024-10-04&until=2024-10-08")
    shown = " ".join(text(page).split())
    for said in ("44.4 % 19–73 %", "80 % 38–96 %", "4000", "Likely to sell", "5 with an outcome"):
        assert said in shown
    columns = re.findall(r"<title>(\S+): (\d+), (\d+) converted</title>", page.body.decode())
    assert columns == [
        ("2024-10-04", "8", "4"),
        ("2024-10-05", "0", "0"),
        ("2024-10-06", "0", "0"),
        ("2024-10-07", "1", "0"),
        ("2024-10-08", "0", "0"),
    ]


@pytest.mark.parametrize(
    ("query", "said"),
    [("since=yesterday", "expected a date as 2026-03-31"), ("since=2026-02-02&until=2026-01-01", "after the last")],
)
def test_dates_that_cannot_be_are_told(browser: Browser, query: str, said: str) -> None:
    answer = browser.get(f"/statistics?{query}")
    assert answer.status == 400
    assert said in answer.body.decode()


def test_health_says_what_is_in_the_way(browser: Browser) -> None:
    """The same as /readyz, beside counts and models."""
    page = text(browser.get("/system"))
    for said in ("no engine works partitions 0, 1, 2, 3", "not ready", "Likely to sell", "accepted ="):
        assert said in page


def test_health_tells_what_is_learned(browser: Browser, desk: Desk, log: Log) -> None:
    """Counts, alarms, what was set aside, and what each learner of the organisation holds."""
    alarm = {"by": ["adwin"], "first": 1_000, "last": 2_000, "before": 0.01, "after": 0.24}
    report = {"outcomes": 300, "positive": 120, "holds": {"a": 0.9, "b": -0.41}, "alarms": [alarm]}
    place = {"kind": "recalibration", "model": "likely_to_sell", "version": "20260101000000"}
    learned = {"seq": 1, "state": b"", "report": msgspec.json.encode(report).decode()}
    with desk.store.engine.begin() as sql:
        sql.execute(sa.insert(learners).values(**place, **learned, organisation=desk.organisation))
    log.client.hset(keys.LEARNING, mapping={"alive_at": time.time(), "learned": 12, "corrected": 3, "open": 5})
    page = " ".join(text(browser.get("/system")).split())
    log.client.delete(keys.LEARNING)
    for said in ("Learner works", "12 3 corrections", "from 0.01 to 0.24", "300 120", "slope 0.9, shift -0.41"):
        assert said in page


def test_a_dead_delivery_is_sent_again_from_health(browser: Browser, desk: Desk) -> None:
    told = {"channel": "webhook", "target": "wh_1", "state": "DEAD", "attempts": 10, "tries": 10, "due_at": 0}
    times = {"expires_at": 1 << 50, "created_at": 1, "done_at": 2, "last_error": "answered 500"}
    with desk.store.engine.begin() as sql:
        sql.execute(sa.insert(deliveries).values(id=f"dl_{desk.key}", organisation=desk.organisation, **told, **times))
    assert "answered 500" in text(browser.get("/system"))
    assert browser.post("/system/retry", ("ids", f"dl_{desk.key}")).status == 303
    assert "Nothing is dead." in text(browser.get("/system"))
