"""The page in headless Chromium: what moves by itself, what a keyboard and a screen reader have, how it looks."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.live import Live
from tests.logged import Log
from tests.serving.page_desk import Desk
from tests.serving.page_wire import Wire
from tests.serving.test_users import written

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium on the PATH")
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
LAPTOP, PHONE = {"width": 1366, "height": 820}, {"width": 360, "height": 740}
EVIL = """<script>window.owned=1</script>"'><img src=x onerror="window.owned=1">"""
SOON = 5_000  # ms
LOOKS = Path(__file__).with_name("page_looks.js").read_text()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=[*QUIET, "--disable-sync"])
        yield browser
        browser.close()


class Tabs:
    """`faults`: what a tab did that it should not; of console errors those that hold `forgiven` are none."""

    forgiven = "nothing"

    def __init__(self, chromium: Any, api: Live, desk: Desk) -> None:
        self.faults: list[str] = []
        self._chromium, self._api, self._desk = chromium, api, desk
        self._contexts: list[Any] = []

    def __call__(self, path: str, **options: Any) -> Any:
        """Signs in, and opens the path."""
        options = {"viewport": LAPTOP, "base_url": self._api.url} | options
        self._contexts.append(self._chromium.new_context(**options))
        page = self._contexts[-1].new_page()
        self._watch(page, (options["base_url"], "data:"))
        page.goto("/sign-in")
        page.fill("#key", self._desk.key)
        page.fill("#name", "Grace")
        page.click("main button")
        page.goto(path)
        return page

    def _watch(self, page: Any, ours: tuple[str, str]) -> None:
        page.on("request", lambda r: None if r.url.startswith(ours) else self.faults.append(r.url))
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", lambda said: self._said(said.text) if said.type == "error" else None)

    def _said(self, error: str) -> None:
        if self.forgiven not in error:
            self.faults.append(error)

    def close(self) -> None:
        for context in self._contexts:
            context.close()


@pytest.fixture
def tab(chromium: Any, api: Live, desk: Desk) -> Iterator[Tabs]:
    """Opens a path, signed in. No tab may ask anybody else, break the policy, or have a script fail."""
    tabs = Tabs(chromium, api, desk)
    yield tabs
    tabs.close()
    assert tabs.faults == []


def row(page: Any, user: str) -> Any:
    return page.locator(".alert", has=page.get_by_role("link", name=user, exact=True))


def listens(page: Any) -> Any:
    """Once the live feed is open."""
    page.get_by_text("live", exact=True).wait_for(timeout=SOON)
    return page


def test_an_alert_appears_by_itself(tab: Tabs, desk: Desk) -> None:
    """On top, said to those who listen, with its reasons."""
    desk.add(1)
    page = listens(tab("/"))
    desk.add(2, reasons=["homes compared: 9 (30 d)"])
    row(page, "u2").get_by_text("homes compared: 9 (30 d)").wait_for(timeout=SOON)
    assert page.locator(".alert .person").all_inner_texts() == ["u2", "u1"]
    playwright.expect(page.get_by_role("status")).to_have_text("1 new alert")


def test_while_somebody_reads_new_ones_are_counted(tab: Tabs, desk: Desk) -> None:
    """And stand there when they are asked for; nothing moves under the reader's hands."""
    desk.add(1)
    page = listens(tab("/"))
    page.keyboard.press("j")
    desk.add(2, 3)
    more = page.get_by_role("button", name="Show 2 new alerts")
    more.wait_for(timeout=SOON)
    assert page.locator(".alert").count() == 1
    page.keyboard.press("n")
    playwright.expect(page.locator(".alert")).to_have_count(3)
    playwright.expect(row(page, "u3")).to_be_focused()


def test_what_came_while_the_wire_was_cut_is_there_afterwards(tab: Tabs, desk: Desk) -> None:
    """It says that it is not connected, resumes by itself, and nothing is missing."""
    desk.add(1)
    tab.forgiven = "net::ERR_"
    with closing(Wire(desk.api.port)) as wire:
        page = listens(tab("/", base_url=wire.url))
        wire.cut()
        page.get_by_text("not connected").wait_for(timeout=SOON)
        desk.add(2, 3, 4)
        wire.mend()
        playwright.expect(page.locator(".alert")).to_have_count(4, timeout=SOON)
        listens(page)


def test_an_alert_is_acknowledged_by_keyboard(tab: Tabs, desk: Desk) -> None:
    """In one's own name; the focus stays where it was."""
    (first,) = desk.add(1)
    page = listens(tab("/"))
    page.keyboard.press("j")
    page.keyboard.press("a")
    playwright.expect(row(page, "u1").locator(".state")).to_have_text("Acknowledged")
    playwright.expect(row(page, "u1")).to_be_focused()
    assert desk.status(first) == "ACKNOWLEDGED"


def test_what_leaves_the_filter_leaves_the_list(tab: Tabs, desk: Desk) -> None:
    """The focus goes on to the next, so that a hand on the keyboard works through them."""
    desk.add(1, 2, 3)
    page = listens(tab("/?status=DELIVERED"))
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("a")
    playwright.expect(page.locator(".alert .person")).to_have_text(["u3", "u1"])
    playwright.expect(row(page, "u1")).to_be_focused()


def test_many_are_dismissed_at_once(tab: Tabs, desk: Desk) -> None:
    """Ticked, asked why in a dialog that takes the focus, done, and said."""
    made = desk.add(1, 2, 3)
    page = listens(tab("/"))
    page.get_by_label("Select all on this page").check()
    row(page, "u2").get_by_role("checkbox").uncheck()
    page.keyboard.press("d")
    dialog = page.get_by_role("dialog", name="Dismiss 2 alerts")
    playwright.expect(dialog.get_by_label("Why")).to_be_focused()
    page.keyboard.type("moved away")
    page.keyboard.press("Enter")
    playwright.expect(page.get_by_role("status")).to_have_text("2 alerts dismissed.")
    assert [desk.status(one) for one in made] == ["DISMISSED", "DELIVERED", "DISMISSED"]


def test_an_outcome_is_told_in_a_dialog(tab: Tabs, desk: Desk) -> None:
    """Of the alert where the focus is; what cannot be is told in the dialog, which keeps what was written."""
    (one,) = desk.add(1)
    tab.forgiven = "422 (Unprocessable"
    page = listens(tab("/"))
    page.keyboard.press("j")
    page.keyboard.press("o")
    dialog = page.get_by_role("dialog", name="What came of it?")
    dialog.get_by_label("Yes, it came about").check()
    dialog.get_by_label("It became business").check()
    dialog.get_by_label("What it was worth").fill("lots")
    dialog.get_by_role("button", name="Record").click()
    playwright.expect(dialog.get_by_role("alert")).to_contain_text("expected a number")
    dialog.get_by_label("What it was worth").fill("350,000")
    dialog.get_by_role("button", name="Record").click()
    playwright.expect(row(page, "u1").locator(".state")).to_have_text("Converted")
    assert desk.status(one) == "CONVERTED"


def test_what_another_does_is_seen(tab: Tabs, desk: Desk) -> None:
    (one,) = desk.add(1)
    page = listens(tab("/"))
    desk.move([one.id], "ACKNOWLEDGED", who="Ada")
    desk.told()
    playwright.expect(row(page, "u1").locator(".state")).to_have_text("Acknowledged", timeout=SOON)


def test_filters_survive_a_reload(tab: Tabs, desk: Desk) -> None:
    """They stand in the address, and hold for what comes too."""
    desk.add(1, priority="CRITICAL")
    desk.add(2, priority="LOW")
    page = tab("/")
    page.get_by_label("Priority").select_option("CRITICAL")
    page.wait_for_url("**/?priority=CRITICAL")
    listens(page).reload()
    assert page.get_by_label("Priority").input_value() == "CRITICAL"
    listens(page)
    desk.add(3, priority="LOW")
    desk.add(4, priority="CRITICAL")
    row(page, "u4").wait_for(timeout=SOON)
    assert page.locator(".alert .person").all_inner_texts() == ["u4", "u1"]


def test_keys_are_listed_and_can_be_turned_off(tab: Tabs, desk: Desk) -> None:
    """Since dictation types letters, and in a field a letter is a letter."""
    (one,) = desk.add(1)
    page = listens(tab("/"))
    page.keyboard.press("/")
    page.keyboard.type("jad")
    assert page.get_by_label("Person").input_value() == "jad"
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    page.get_by_label("Keys are on").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.keyboard.press("a")
    assert page.evaluate("document.activeElement.tagName") == "BODY"
    assert desk.status(one) == "DELIVERED"


def test_a_person_moves(tab: Tabs, desk: Desk, log: Log) -> None:
    """Features are fetched again when they hold as of another moment, and those that changed are marked."""
    written(log, "ada", desk.organisation)
    page = tab("/people/ada")
    feature = page.locator("[data-key=doc_access_count_30d] dd")
    playwright.expect(feature).to_contain_text("0.5")
    written(log, "ada", desk.organisation, at=1_750_000_900_000, doc_access_count_30d=17.0)
    playwright.expect(feature).to_contain_text("17", timeout=SOON)
    playwright.expect(page.locator("[data-key=doc_access_count_30d] .moved")).to_have_count(1)


def test_what_somebody_sent_runs_nowhere(tab: Tabs, desk: Desk, log: Log) -> None:
    """A script in an id or a reason stands there as text, also where it comes in live."""
    written(log, EVIL, desk.organisation)
    page = listens(tab("/"))
    desk.add(1, user=EVIL, reasons=[EVIL])
    playwright.expect(page.locator(".alert .person")).to_have_text(EVIL, timeout=SOON)
    playwright.expect(page.locator(".alert .reasons")).to_have_text(EVIL)
    page.locator(".alert .person a").click()
    playwright.expect(page.get_by_role("heading", level=1)).to_have_text(EVIL)
    assert page.evaluate("window.owned") is None


PATHS = ("/sign-in", "/", "/people", "/people/ada", "/statistics", "/system")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_reads_well_on_a_phone_in(scheme: str, tab: Tabs, desk: Desk, log: Log) -> None:
    """Nothing scrolls sideways; each control has a name; text has the contrast of WCAG 2.2 AA (1.4.3)."""
    (one, *_) = desk.add(1, 2, 3, user="somebody-with-a-very-long-name-indeed@a-rather-long-domain.example.org")
    desk.move([one.id], "ACKNOWLEDGED", who="Ada")
    written(log, "ada", desk.organisation)
    page = tab("/", viewport=PHONE, color_scheme=scheme, reduced_motion="reduce")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, ground[4:-1].split(","))) < 200) == (scheme == "dark")
    for path in (*PATHS, f"/alerts/{one.id}", f"/alerts/dismiss?ids={one.id}", f"/alerts/outcome?ids={one.id}"):
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], path
        assert page.evaluate(LOOKS) == [], path
        assert nameless(page) == [], path


def nameless(page: Any) -> list[str]:
    """Roles of what can be used and has no name in the accessibility tree."""
    tree = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    used = {"button", "link", "textbox", "combobox", "checkbox", "radio", "searchbox", "menuitem", "img", "dialog"}
    return [
        node["role"]["value"]
        for node in tree
        if not node["ignored"] and node["role"]["value"] in used and not node.get("name", {}).get("value")
    ]
