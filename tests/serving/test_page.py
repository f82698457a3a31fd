"""The page as a browser without script has it: signing in, reading, and forms that lead back."""

from __future__ import annotations

import html
import re
import time
from collections.abc import Iterator
from urllib.parse import quote

import msgspec
import pytest
import sqlalchemy as sa

from feature_repo import keys
from flows.delivery_tables import deliveries
from flows.learning_tables import learners
from serving.page_session import local
from tests.live import Answer, Live
from tests.logged import Log
from tests.serving.page_desk import Browser, Desk
from tests.serving.test_users import written

EVIL = """<script>alert(1)</script>"'><img src=x onerror=alert(2)>"""
DAY_MS = 86_400_000
PAGES = ("/", "/people", "/statistics", "/system")


@pytest.fixture
def desk(api: Live, request: pytest.FixtureRequest) -> Iterator[Desk]:
    made = Desk(api, request.node.name)
    yield made
    made.close()


@pytest.fixture
def browser(api: Live, desk: Desk) -> Browser:
    """Signed in as Grace."""
    made = Browser(api)
    assert made.sign_in(desk.key, "Grace").status == 303
    return made


def text(answer: Answer) -> str:
    """What stands on a page, without its elements."""
    assert answer.status == 200, answer.body
    return html.unescape(re.sub(r"<[^>]*>", " ", answer.body.decode()))


@pytest.mark.parametrize("path", ["/", "/people/ada?x=1", "/docs"])
def test_a_browser_without_a_key_is_led_to_the_form(api: Live, path: str) -> None:
    """Which leads back to where they wanted to go; a machine gets a 401 as ever."""
    answer = Browser(api).get(path)
    assert answer.status == 303
    assert answer.headers["location"] == ("/sign-in" if path == "/" else f"/sign-in?next={quote(path, safe='')}")
    assert api.ask("GET", path, headers={}).status == 401


def test_the_cookie_is_out_of_reach_and_is_not_the_key(api: Live, desk: Desk) -> None:
    """Of scripts and of other sites; over TLS it never travels without."""
    plain = Browser(api).sign_in(desk.key).headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= {part.strip() for part in plain.split(";")}
    assert desk.key not in plain
    assert "Secure" not in plain
    behind = Browser(api).post("/sign-in", ("key", desk.key), X_Forwarded_Proto="https")
    assert "Secure" in behind.headers["set-cookie"]


def test_a_wrong_key_is_told_on_the_form(api: Live) -> None:
    answer = Browser(api).sign_in("nobody's")
    assert answer.status == 401
    assert b"this write key is not known" in answer.body
    assert "set-cookie" not in answer.headers
    assert "www-authenticate" not in answer.headers


def test_who_signed_out_is_out_also_with_the_old_cookie(browser: Browser) -> None:
    before = browser.cookie
    assert browser.get("/").status == 200
    assert browser.post("/sign-out").status == 303
    browser.cookie = before
    assert browser.get("/").status == 303


def test_a_key_that_is_gone_ends_its_sessions(browser: Browser, desk: Desk, log: Log) -> None:
    log.client.hdel(keys.KEYS, desk.key)
    assert browser.get("/").status == 303


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://elsewhere.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
@pytest.mark.parametrize("path", ["/alerts/act", "/sign-out", "/sign-in", "/v1/models/likely_to_sell/rollback"])
def test_another_site_cannot_post_with_our_cookie(browser: Browser, path: str, headers: dict[str, str]) -> None:
    """Nor sign somebody in under a key of its own."""
    assert browser.post(path, ("key", "x"), **headers).status == 403


def test_only_paths_of_ours_are_led_to() -> None:
    for path in ("//evil.example", "https://evil.example", "/\\evil.example", "/a\n", "evil", "javascript:1", ""):
        assert local(path) == "/"
    assert local("/people/a%2Fb?x=1") == "/people/a%2Fb?x=1"


def test_signing_in_leads_to_where_somebody_wanted_to_go(api: Live, desk: Desk) -> None:
    wanted = Browser(api).post("/sign-in", ("key", desk.key), ("next", "/people/ada"))
    assert wanted.headers["location"] == "/people/ada"
    away = Browser(api).post("/sign-in", ("key", desk.key), ("next", "//evil.example"))
    assert away.headers["location"] == "/"


@pytest.mark.parametrize("path", [*PAGES, "/sign-in", "/no-such-page", "/assets/page.css", "/alerts/none"])
def test_every_answer_carries_the_policy(browser: Browser, path: str) -> None:
    """Nothing but our own scripts and styles, in no frame; nothing is told to others."""
    headers = browser.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "same-origin")


@pytest.mark.parametrize("path", PAGES)
def test_pages_take_nothing_from_elsewhere_and_run_nothing_inline(browser: Browser, path: str) -> None:
    page = browser.get(path).body.decode()
    assert not re.search(r"(src|href|action)=['\"]?(https?:)?//", page)
    assert not re.search(r"<script(?![^>]*src=)|\sstyle=|\son[a-z]+=", page)


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


def test_what_has_not_changed_is_not_sent_again(browser: Browser) -> None:
    """A style or script is asked for by its tag."""
    first = browser.get("/assets/page.css")
    assert first.headers["content-type"] == "text/css; charset=utf-8"
    again = browser.get("/assets/page.css", If_None_Match=first.headers["etag"])
    assert (again.status, again.body) == (304, b"")
    assert browser.get("/assets/..%2fpage.py").status == 404
