"""The page as a browser without script has it: reading, and forms that lead back."""

from __future__ import annotations

import html
import re
from urllib.parse import quote

import pytest

from tests.live import Live
from tests.logged import Log
from tests.serving.page_desk import Browser, Desk, text
from tests.serving.test_users import written

EVIL = """<script>alert(1)</script>"'><img src=x onerror=alert(2)>"""


def test_an_alert_stands_with_its_reasons_and_what_to_do(browser: Browser, desk: Desk) -> None:
    desk.add(1, reasons=["home values looked up: 7 (30 d)"], score=0.72, confidence=0.8)
    page = text(browser.get("/"))
    for said in ("Likely to sell", "u1", "home values looked up: 7 (30 d)", "offer a valuation", "72 %", "High"):
        assert said in page


def test_an_organisation_sees_its_own_alerts_alone(browser: Browser, desk: Desk) -> None:
    (theirs,) = desk.add(1, organisation="somebody else")
    assert "There are no alerts yet" in text(browser.get("/"))
    assert browser.get(f"/alerts/{theirs.id}").status == 404


def test_filters_stand_in_the_address(browser: Browser, desk: Desk) -> None:
    """And show again what was chosen; what cannot be read is told beside them."""
    desk.add(1, priority="HIGH")
    desk.add(2, priority="LOW", score=0.3)
    page = browser.get("/?priority=LOW&type=&user=")
    assert ("u2" in text(page), "u1" in text(page)) == (True, False)
    assert b'<option value="LOW" selected>' in page.body
    refused = browser.get("/?min_score=much")
    assert refused.status == 400
    assert b"expected a number from 0 to 1" in refused.body


def test_a_type_without_advice_has_some_by_priority(browser: Browser, desk: Desk) -> None:
    """As mails about it have."""
    desk.add(1, type="NO_LONGER_RAISED", priority="CRITICAL")
    assert "Get in touch at once." in text(browser.get("/"))


def test_withheld_alerts_stand_apart(browser: Browser, desk: Desk) -> None:
    """Nobody is told of them, but their outcomes can be: in words of their own."""
    desk.add(1)
    (held,) = desk.add(2, withheld=True)
    assert "u2" not in text(browser.get("/"))
    page = text(browser.get("/?withheld=true"))
    assert ("u2" in page, "u1" in page, "Dismiss u2" in page) == (True, False, False)
    assert "Yes, though nobody was told" in text(browser.get(f"/alerts/outcome?ids={held.id}"))
    told = browser.post("/alerts/outcome", ("ids", held.id), ("outcome", "TRUE_NEGATIVE"))
    assert told.status == 303
    assert "It did not come about, as expected" in text(browser.get(f"/alerts/{held.id}"))


def test_the_list_goes_on_where_a_page_ends(browser: Browser, desk: Desk) -> None:
    desk.add(*range(60))
    first = browser.get("/").body.decode()
    older = html.unescape(re.findall(r'rel="next" href="([^"]+)"', first)[0])
    second = browser.get(older).body.decode()
    ids = [set(re.findall(r'data-key="(al_\w+)"', page)) for page in (first, second)]
    assert (len(ids[0]), len(ids[1]), ids[0] & ids[1]) == (50, 10, set())


def test_what_somebody_sent_stands_as_text(browser: Browser, desk: Desk, log: Log) -> None:
    """On every page that shows it: an id, a reason, a filter, what was done."""
    (evil,) = desk.add(1, user=EVIL, reasons=[EVIL])
    written(log, EVIL, desk.organisation)
    for path in (
        "/",
        f"/?user={quote(EVIL)}",
        f"/?said={quote(EVIL)}",
        f"/?type={quote(EVIL)}",
        f"/alerts/{evil.id}",
        f"/alerts/dismiss?ids={evil.id}&back={quote(EVIL)}",
        f"/people/{quote(EVIL, safe='')}",
        "/people",
        f"/sign-in?next={quote('/' + EVIL)}",
    ):
        body = browser.get(path).body
        assert b"<script>" not in body, path
        assert b"<img" not in body, path
    assert EVIL in text(browser.get(f"/people/{quote(EVIL, safe='')}"))


def test_one_alert_is_acknowledged_by_a_form_of_its_own(browser: Browser, desk: Desk) -> None:
    """In the name of who signed in; the answer leads back and says what was done."""
    (one,) = desk.add(1)
    answer = browser.post("/alerts/act", ("one", f"ACKNOWLEDGED {one.id}"), ("back", "/?priority=HIGH"))
    assert answer.headers["location"] == "/?priority=HIGH&said=ACKNOWLEDGED.1.1"
    assert desk.status(one) == "ACKNOWLEDGED"
    assert "1 alert acknowledged." in text(browser.get(answer.headers["location"]))
    assert "by Grace" in text(browser.get(f"/alerts/{one.id}"))


def test_what_was_looked_at_is_read(api: Live, browser: Browser, desk: Desk) -> None:
    """By whom it was: to Ada it is news. All can be marked at once."""
    one, _ = desk.add(1, 2)
    assert "2 unread" in text(browser.get("/"))
    browser.get(f"/alerts/{one.id}")
    assert "1 unread" in text(browser.get("/"))
    ada = Browser(api)
    ada.sign_in(desk.key, "Ada")
    assert "2 unread" in text(ada.get("/"))
    assert ada.post("/alerts/read", ("back", "/?priority=HIGH")).headers["location"] == "/?priority=HIGH"
    assert "unread" not in text(ada.get("/")).lower()


def test_many_are_dismissed_at_once_with_a_reason(browser: Browser, desk: Desk) -> None:
    """Of those that may not be, it is said how many."""
    made = desk.add(1, 2, 3)
    desk.move([made[2].id], "EXPIRED", who="the clock")
    ids = [("ids", one.id) for one in made]
    asks = text(browser.get("/alerts/dismiss?" + "&".join(f"ids={one.id}" for one in made)))
    assert "Dismiss 3 alerts" in asks
    answer = browser.post("/alerts/act", *ids, ("do", "DISMISSED"), ("why", "moved away"), ("back", "/"))
    assert [desk.status(one) for one in made] == ["DISMISSED", "DISMISSED", "EXPIRED"]
    said = text(browser.get(answer.headers["location"]))
    assert "2 alerts dismissed; 1 other could not be" in said
    assert "moved away" in text(browser.get(f"/alerts/{made[0].id}"))


def test_an_outcome_is_recorded_of_many(browser: Browser, desk: Desk) -> None:
    """With its worth as people write it; it stands with the alert, and a correction beside what it corrects."""
    made = desk.add(1, 2)
    asks = text(browser.get(f"/alerts/outcome?ids={made[0].id}&ids={made[1].id}"))
    assert "What came of 2 alerts?" in asks
    told = [("ids", one.id) for one in made] + [("outcome", "TRUE_POSITIVE"), ("back", "/")]
    answer = browser.post("/alerts/outcome", *told, ("converted", "true"), ("value", "350,000"), ("notes", "sold"))
    assert "2 alerts answered" in text(browser.get(answer.headers["location"]))
    assert {desk.status(one) for one in made} == {"CONVERTED"}
    shown = text(browser.get(f"/alerts/{made[0].id}"))
    for said in ("It came about", "worth 350,000", "by Grace", "sold"):
        assert said in shown
    browser.post("/alerts/outcome", ("ids", made[0].id), ("outcome", "FALSE_POSITIVE"), ("back", "/"))
    assert "1 earlier record, corrected" in text(browser.get(f"/alerts/{made[0].id}"))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"value": "much"}, "expected a number as what it was worth"),
        ({"outcome": "MAYBE"}, "MAYBE"),
        ({"outcome": "FALSE_POSITIVE"}, "who converted did what was predicted"),
    ],
)
def test_an_outcome_that_cannot_be_is_refused_in_words(
    browser: Browser, desk: Desk, fields: dict[str, str], said: str
) -> None:
    """A worth that is no number, a word that is none, a conversion of what did not come about."""
    (one,) = desk.add(1)
    given = {"ids": one.id, "outcome": "TRUE_POSITIVE", "converted": "true"} | fields
    answer = browser.post("/alerts/outcome", *given.items())
    assert answer.status == 422
    assert said in answer.body.decode()
    assert desk.status(one) == "DELIVERED"


@pytest.mark.parametrize("path", ["/alerts/dismiss", "/alerts/outcome"])
def test_nothing_ticked_is_told(browser: Browser, path: str) -> None:
    assert browser.get(path).status == 400
    assert browser.post("/alerts/act", ("do", "DISMISSED")).status == 400


def test_a_person_stands_with_features_and_scores(browser: Browser, desk: Desk, log: Log) -> None:
    """In words, with their alerts; of nobody known it is said."""
    written(log, "a b/c%25", desk.organisation)
    desk.add(1, user="a b/c%25")
    page = text(browser.get(f"/people/{quote('a b/c%25', safe='')}"))
    for said in ("a b/c%25", "documents opened", "Investment interest", "alerts from", "Delivered"):
        assert said in page
    assert "Nothing is known of nobody yet." in text(browser.get("/people/nobody"))
