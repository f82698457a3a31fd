"""Links that are signed, what robots do with them, and answers as mail servers hand them on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows import reply_mail, tracking
from flows.alert_store import AlertStore
from flows.links import Kind, Links, Said
from flows.signing_key import signing_key
from flows.tracking import Reply, is_machine

DELIVERY = "dl_" + "5a" * 16
OURS = Links(b"k" * 32, "https://alerts.example.org/", "replies@example.org")
THEIRS = Links(b"o" * 32, "https://alerts.example.org", "replies@example.org")
kinds: st.SearchStrategy[Kind] = st.sampled_from(["open", "click", "unsubscribe"])


@pytest.fixture
def store(tmp_path: Path) -> Iterator[AlertStore]:
    opened = AlertStore(f"sqlite:///{tmp_path / 'tracking.db'}")
    opened.create()
    yield opened
    opened.close()


@given(kinds, kinds, st.binary(min_size=16, max_size=16), st.text(max_size=60))
def test_a_token_says_what_it_was_given_to_us_alone(kind: Kind, other: Kind, id_: bytes, path: str) -> None:
    """And only as what it was made for."""
    said = Said(kind, f"dl_{id_.hex()}", path)
    token = OURS.token(said)
    assert OURS.read(token, kind) == said
    assert other == kind or OURS.read(token, other) is None
    assert THEIRS.read(token, kind) is None


@given(st.integers(0, 40), st.integers(1, 255))
def test_a_token_that_was_changed_says_nothing(place: int, flip: int) -> None:
    """Whichever byte."""
    token = bytearray(OURS.token(Said("click", DELIVERY, "/people/ann")).encode())
    token[place] ^= flip
    assert OURS.read(token.decode("latin-1"), "open", "click", "unsubscribe") is None


@given(st.text(max_size=80))
def test_no_text_breaks_the_reader_of_tokens(text: str) -> None:
    """Neither of links nor of addresses."""
    assert OURS.read(text, "click") is None
    assert OURS.replied(text) is None


def test_an_address_for_replies_fits_and_survives_a_change_of_case() -> None:
    """64 characters before the @ at most (RFC 5321, 4.5.3.1.1)."""
    address = OURS.reply_address(DELIVERY)
    assert len(address.partition("@")[0]) <= 64
    assert OURS.replied(address.upper()) == OURS.replied(address) == DELIVERY
    assert THEIRS.replied(address) is None


def test_all_processes_sign_with_one_key(store: AlertStore) -> None:
    """Which is made once, at random."""
    key = signing_key(store.engine)
    assert len(key) == 32
    assert signing_key(store.engine) == key
    assert signing_key(store.engine, "other") != key


@pytest.mark.parametrize(
    ("method", "headers", "machine"),
    [
        ("GET", {"user-agent": "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Firefox/140.0"}, False),
        (
            "GET",
            {"user-agent": "Mozilla/5.0 (Windows NT 5.1) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"},
            False,
        ),
        ("GET", {"user-agent": "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html"}, False),
        ("GET", {"user-agent": "Mozilla/5.0"}, True),
        ("GET", {}, True),
        ("HEAD", {"user-agent": "Mozilla/5.0 (Windows NT 10.0) Firefox/140.0"}, True),
        ("GET", {"user-agent": "Slackbot-LinkExpanding 1.0"}, True),
        ("GET", {"user-agent": "Mozilla/5.0 (compatible; Mimecast)"}, True),
        ("GET", {"user-agent": "Mozilla/5.0 (X11) Chrome/140", "sec-purpose": "prefetch;anonymous-client-ip"}, True),
    ],
)
def test_robots_are_told_from_people_by_what_they_say(method: str, headers: dict[str, str], machine: bool) -> None:
    """A mail program's proxy fetches when somebody looks."""
    assert is_machine(method, headers) is machine


def test_the_first_time_stays_and_times_are_counted(store: AlertStore) -> None:
    """What machines do is counted apart."""
    with store.writing() as connection:
        for at, machine in ((5, True), (10, False), (20, False)):
            tracking.see(connection, DELIVERY, "open", at, machine=machine)
        tracking.see(connection, DELIVERY, "click", 30, machine=False)
        found = tracking.of_deliveries(connection, [DELIVERY, "dl_none"])
    assert found == {DELIVERY: tracking.Tracked(opened_at=10, opens=2, clicked_at=30, clicks=1, by_machines=1)}


def test_an_answer_is_kept_once(store: AlertStore) -> None:
    """However often a mail server hands it on."""
    reply = Reply(message_id="<1@x>", at=7, sender="ann@x.org", text="On it.", automatic=False)
    with store.writing() as connection:
        assert [tracking.answer(connection, DELIVERY, reply) for _ in range(2)] == [True, False]
        assert tracking.replies_to(connection, [DELIVERY]) == {DELIVERY: [reply]}
        assert tracking.of_deliveries(connection, [DELIVERY])[DELIVERY].replies == 1


def mail(*head: str, text: str = "On it.") -> bytes:
    return "\r\n".join(["From: Ann <ann@x.org>", "Message-ID: <1@x>", *head, "", text]).encode()


@pytest.mark.parametrize(
    "head",
    [
        (f"To: Telltale <{OURS.reply_address(DELIVERY)}>",),
        ("To: someone@x.org", f"X-Original-To: {OURS.reply_address(DELIVERY)}"),
        ("To: alerts@example.org", f"In-Reply-To: <{DELIVERY}@alerts.example.org>"),
        ("To: alerts@example.org", f"References: <a@b> <{DELIVERY}@alerts.example.org>\r\n <c@d>"),
    ],
)
def test_an_answer_names_what_it_answers(head: tuple[str, ...]) -> None:
    """By the address, or by the ids that mail programs hand on."""
    found = reply_mail.read(mail(*head), OURS, 7)
    assert found is not None
    assert found.delivery == DELIVERY
    assert found.reply == Reply(message_id="<1@x>", at=7, sender="ann@x.org", text="On it.", automatic=False)


@pytest.mark.parametrize("head", ["Auto-Submitted: auto-replied", "Precedence: bulk", "X-Autoreply: yes"])
def test_nobody_wrote_an_automatic_answer(head: str) -> None:
    """RFC 3834."""
    found = reply_mail.read(mail(f"To: {OURS.reply_address(DELIVERY)}", head), OURS, 7)
    assert found is not None
    assert found.reply.automatic


@pytest.mark.parametrize(
    "text",
    [
        "On it.\n\n> likely to sell\n",
        "On it.\r\n\r\nOn Thu, 5 Mar 2026 at 12:00, Telltale <t@x.org> wrote:\r\n> x",
        "On it.\n-----Original Message-----\nx",
        "On it.\n________________________________\nFrom: Telltale",
    ],
)
def test_an_answer_is_kept_without_what_it_quotes(text: str) -> None:
    """As the usual mail programs quote."""
    assert reply_mail.own_words(text) == "On it."


@given(
    st.binary(max_size=200),
    st.sampled_from(["text/plain; charset=klingon", "text/plain; charset=a\0b", "multipart/mixed; boundary=x", "a"]),
)
def test_no_mail_breaks_the_reader(raw: bytes, kind: str) -> None:
    """Whatever somebody sends."""
    head = f"To: {OURS.reply_address(DELIVERY)}\r\nContent-Type: {kind}\r\n".encode()
    reply_mail.read(raw, OURS, 7)
    assert reply_mail.read(head + b"\r\n" + raw, OURS, 7) is not None
