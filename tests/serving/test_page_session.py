"""Who is let in to the page, by what cookie, and what every page is sent with."""

from __future__ import annotations

import base64
import contextlib
import re
import time
from urllib.parse import quote

import pytest

from feature_repo import keys
from serving.alert_feed import BELIEVED_S
from serving.auth import FRESH
from serving.page_session import local
from tests.live import Live
from tests.logged import Log
from tests.serving.alert_desk import Events, stream
from tests.serving.page_desk import Browser, Desk

PAGES = ("/", "/people", "/statistics", "/system")


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


@pytest.mark.parametrize("how", ["signed out", "key gone", "key gone, by key"])
def test_a_live_stream_ends_for_who_was_shut_out(browser: Browser, desk: Desk, log: Log, how: str) -> None:
    """They are told of no alert that comes after; who was not shut out is."""
    other = Browser(browser.api)
    other.sign_in(desk.key)
    basic = "Basic " + base64.b64encode(f"{desk.key}:".encode()).decode()
    login = {"Authorization": basic} if how == "key gone, by key" else {"Cookie": browser.cookie}
    with listening(browser.api, login) as ours, listening(browser.api, {"Cookie": other.cookie}) as theirs:
        if how == "signed out":
            browser.post("/sign-out")
        else:
            log.client.hdel(keys.KEYS, desk.key)
        time.sleep(FRESH + BELIEVED_S)
        desk.add(1)
        if how == "signed out":
            assert theirs.users(1) == ["u1"]
        assert b"data:" not in ours.answer.read()


def listening(api: Live, login: dict[str, str]) -> contextlib.AbstractContextManager[Events]:
    mine = Live(api.settings, api.process)
    mine.login = login
    return stream(mine)


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


def test_what_has_not_changed_is_not_sent_again(browser: Browser) -> None:
    """A style or script is asked for by its tag."""
    first = browser.get("/assets/page.css")
    assert first.headers["content-type"] == "text/css; charset=utf-8"
    again = browser.get("/assets/page.css", If_None_Match=first.headers["etag"])
    assert (again.status, again.body) == (304, b"")
    assert browser.get("/assets/..%2fpage.py").status == 404
