"""Mail by SMTP, taken by a server that we did not write: what arrives, and what becomes of what does not."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import closing
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from urllib.parse import quote

import msgspec
import pytest

from feature_repo.settings import SettingError, Settings
from flows import delivery_list, letter, post
from flows.alert_store import open_alerts
from flows.channel import Dead, Parcel, Result, Retry, Sent
from flows.delivery_list import Which
from flows.email_channel import EmailChannel, server
from tests.contracts.smtp_server import PASSWORD, USER, Postmaster, certificate, served
from tests.flows.made_alerts import alert
from tests.flows.post_office import DAY_MS, WRITER, Office, rule, whom

LOGIN = f"{USER}:{quote(PASSWORD, safe='')}@"
DELIVERY = "dl_" + "0a" * 16


def parcel(body: bytes = b"") -> Parcel:
    made = body or WRITER.mail(DELIVERY, whom(), [alert(1, reasons=["called twice"])], 1_772_712_000_000)
    return Parcel(
        id=DELIVERY, organisation="acme", channel="email", target="rc_ann", alerts=("al_1",), body=made, attempt=1,
        created_at=0,
    )  # fmt: skip


def message(body: bytes) -> bytes:
    return letter.decode(body).message()


def channel(port: int, *, login: str = "", scheme: str = "smtp", query: str = "") -> EmailChannel:
    return EmailChannel(server(f"{scheme}://{login}127.0.0.1:{port}{query}"), WRITER.sender)


def sent(postmaster: Postmaster, query: str = "") -> Result:
    """One mail handed in to a server without TLS."""

    async def talk() -> Result:
        async with served(postmaster) as port:
            return await channel(port, query=query).send(parcel(), "ann@x.org")

    return asyncio.run(talk())


def run(talk: Callable[[], Awaitable[Result]]) -> Result:
    return asyncio.run(talk())  # type: ignore[arg-type]  # an async function


def test_a_mail_arrives_as_it_was_written() -> None:
    """Text and HTML, with the reasons and what to do."""
    postmaster = Postmaster()
    assert isinstance(sent(postmaster), Sent)
    ((to, content),) = postmaster.mails
    assert (to, content) == ("ann@x.org", message(parcel().body))
    mail = message_from_bytes(content, policy=policy.default)
    assert isinstance(mail, EmailMessage)
    for kind in ("plain", "html"):
        part = mail.get_body((kind,))
        assert part is not None
        assert "called twice" in part.get_content()
        assert "Get in touch today." in part.get_content()
    assert [mail["from"], mail["to"]] == ["Telltale <telltale@example.org>", "ann <ann@x.org>"]


def test_a_mail_can_be_unsubscribed_from_with_one_click() -> None:
    """RFC 8058: both headers, the address a single https one, plain on one line."""
    head = message(parcel().body).partition(b"\r\n\r\n")[0].decode()
    assert "\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n" in head
    assert re.search(r"\r\nList-Unsubscribe: <https://alerts\.example\.org/u/[\w-]+>\r\n", head)


@pytest.mark.parametrize(
    "evil", ["a\r\nBcc: eve@x.org", "a\nBcc: eve@x.org", "a\rBcc: eve@x.org", "\u2028Bcc: e@x.org"]
)
def test_no_name_becomes_a_header(evil: str) -> None:
    """Whoever can choose an id, a type or a name chooses none of the mail's recipients."""
    body = WRITER.mail(
        DELIVERY, msgspec.structs.replace(whom(), name=evil), [alert(1, user=evil, type=evil, reasons=[evil])], 0
    )
    mail = message_from_bytes(message(body), policy=policy.default)
    assert mail["bcc"] is None
    assert len(mail["to"].addresses) == 1
    assert mail.keys() == message_from_bytes(message(parcel().body), policy=policy.default).keys()


def test_html_in_an_id_stays_text() -> None:
    """A person may call themselves anything."""
    body = WRITER.mail(DELIVERY, whom(), [alert(1, user="<img src=x>")], 0)
    mail = message_from_bytes(message(body), policy=policy.default)
    assert isinstance(mail, EmailMessage)
    part = mail.get_body(("html",))
    assert part is not None
    assert "<img src=x>" not in part.get_content()
    assert "&lt;img src=x&gt;" in part.get_content()


@pytest.mark.parametrize(
    ("postmaster", "expected"),
    [
        (Postmaster(rcpt=("451 4.7.1 come back later",)), Retry),
        (Postmaster(rcpt=("550 5.1.1 no such user",)), Dead),
        (Postmaster(data=("452 4.3.1 disk full",)), Retry),
        (Postmaster(data=("554 5.7.1 we do not want it",)), Dead),
        (Postmaster(data=("break",)), Retry),
    ],
)
def test_what_the_server_says_decides(postmaster: Postmaster, expected: type[Result]) -> None:
    """4xx: again; 5xx: never; broken off: again, under the same Message-ID."""
    assert isinstance(sent(postmaster), expected)
    assert postmaster.mails == []


def test_a_server_that_greylists_gets_the_same_bytes_again(tmp_path: Path) -> None:
    """After a minute, and once."""
    postmaster = Postmaster(data=("451 later", "451 later", "250 OK"))

    async def talk() -> None:
        async with served(postmaster) as port:
            office = Office(tmp_path, [channel(port)])
            office.keep(whom(), rule(("email", "rc_ann")))
            office.arrive()
            await office.settle()
            await office.pass_time(DAY_MS)
            await office.delivery.stop(0)
            assert office.rows("channel", "state", "attempts") == [("in_app", "DONE", 0), ("email", "DONE", 3)]
            office.close()

    asyncio.run(talk())
    assert len(postmaster.mails) == 1
    assert len(postmaster.tries) == 3
    assert len(set(postmaster.tries)) == 1


async def latin_1(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A mail server that answers in an encoding of its own, and with a NUL."""
    writer.write(b"220 re\xe7u\r\n")
    while line := await reader.readline():
        if line[:4].upper() == b"DATA":
            writer.write(b"354 vas-y\r\n")
            await reader.readuntil(b"\r\n.\r\n")
        writer.write(b"250 re\xe7u \0 merci\r\n")
    writer.close()


def test_an_answer_in_another_encoding_is_written_down(tmp_path: Path) -> None:
    """What of it SQL does not take is replaced, and the mail is sent once."""

    async def talk() -> None:
        async with await asyncio.start_server(latin_1, "127.0.0.1", 0) as listening:
            office = Office(tmp_path, [channel(listening.sockets[0].getsockname()[1])])
            office.keep(whom(), rule(("email", "rc_ann")))
            office.arrive()
            await office.settle()
            with office.store.engine.connect() as sql:
                (tried,) = delivery_list.tried(sql, Which(channel="email"), 10)
            assert (tried.result, tried.said) == ("SENT", "re?u   merci")
            await office.delivery.stop(0)
            office.close()

    asyncio.run(talk())


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server's TLS whose certificate clients trust."""
    context, pem = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    return context


@pytest.mark.filterwarnings("ignore:Requiring AUTH")  # aiosmtpd sees no TLS where it was there before the first byte
@pytest.mark.parametrize(("scheme", "at_once"), [("smtp", False), ("smtps", True)])
def test_it_logs_in_over_tls(trusted: ssl.SSLContext, scheme: str, at_once: bool) -> None:
    """By STARTTLS, and from the first byte on."""
    postmaster = Postmaster()

    async def talk() -> Result:
        async with served(postmaster, trusted, at_once=at_once, login=True) as port:
            return await channel(port, login=LOGIN, scheme=scheme).send(parcel(), "ann@x.org")

    assert isinstance(run(talk), Sent)
    assert postmaster.passwords == [PASSWORD.encode()]
    assert len(postmaster.mails) == 1


def test_a_password_is_told_to_nobody_whose_certificate_is_unknown(tmp_path: Path) -> None:
    """Nor over a connection without TLS."""
    postmaster = Postmaster()

    async def talk(tls: ssl.SSLContext | None) -> Result:
        async with served(postmaster, tls, login=tls is not None) as port:
            return await channel(port, login=LOGIN).send(parcel(), "ann@x.org")

    assert isinstance(run(lambda: talk(certificate(tmp_path)[0])), Retry)
    assert isinstance(run(lambda: talk(None)), Retry)
    assert (postmaster.passwords, postmaster.mails) == ([], [])


def test_a_wrong_password_is_tried_again(trusted: ssl.SSLContext) -> None:
    """An operator can put that right; the answer says what is wrong."""
    postmaster = Postmaster()

    async def talk() -> Result:
        async with served(postmaster, trusted, login=True) as port:
            return await channel(port, login=f"{USER}:wrong@").send(parcel(), "ann@x.org")

    result = run(talk)
    assert isinstance(result, Retry)
    assert "535" in result.why


def test_a_server_that_hangs_does_not_hold_up_the_rest(tmp_path: Path) -> None:
    """It takes the connection and says nothing."""

    async def talk() -> None:
        silent = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
        mail = channel(silent.sockets[0].getsockname()[1])
        mail.timeout_s = 0.1
        office = Office(tmp_path, [mail])
        office.keep(whom(chat=("slack://a",)), rule(("email", "rc_ann"), ("chat", "rc_ann")))
        office.arrive()
        await office.settle()
        await office.delivery.stop(0)
        assert office.rows("channel", "state") == [("in_app", "DONE"), ("email", "WAITING"), ("chat", "DONE")]
        office.close()
        silent.close()

    asyncio.run(talk())


def tell_everybody(office: Office, people: int) -> None:
    """An alert that goes to so many by mail; others of another type go to Ann's chat."""
    names = [f"p{n}" for n in range(people)]
    office.keep(*(whom(name) for name in names), whom(chat=("slack://a",)))
    office.keep(rule(*(("email", f"rc_{name}") for name in names), types=("LIKELY_TO_SELL",)))
    office.keep(rule(("chat", "rc_ann"), id="rr_2", position=2))
    office.arrive()


def test_a_server_that_hangs_takes_no_room_from_other_channels(tmp_path: Path) -> None:
    """However many mails are to be sent: those beyond the bound of their channel wait, and lose no try."""

    async def talk() -> None:
        silent = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
        office = Office(tmp_path, [channel(silent.sockets[0].getsockname()[1])])
        tell_everybody(office, 450)
        await office.delivery.begin()
        await office.delivery.turn()
        office.arrive(type="OTHER")
        await office.delivery.turn()
        await asyncio.sleep(0.05)
        states = Counter(office.rows("channel", "state"))
        assert len(office.notes["chat"].sent) == 1
        assert (states["email", "ACTIVE"], states["email", "WAITING"]) == (10, 440)
        assert office.delivery.lanes.wakes() is None
        await office.delivery.stop(0)
        office.close()
        silent.close()

    asyncio.run(talk())


def test_a_server_is_not_asked_for_more_than_it_gives(tmp_path: Path) -> None:
    """At most ten mails are handed in at once; the others wait for their turn."""
    postmaster = Postmaster(pause_s=0.01)

    async def talk() -> None:
        async with served(postmaster) as port:
            office = Office(tmp_path, [channel(port)])
            tell_everybody(office, 25)
            await office.settle()
            await office.delivery.stop(0)
            office.close()

    asyncio.run(talk())
    assert len(postmaster.mails) == 25
    assert 1 < postmaster.most <= 10


def test_without_a_server_mail_waits() -> None:
    """Somebody may still set it."""
    result = asyncio.run(EmailChannel(server(""), "").send(parcel(), "ann@x.org"))
    assert result == Retry("TELLTALE_SMTP_URL is not set")


@pytest.mark.parametrize(
    "url",
    ["mail.x.org", "http://x.org", "smtp://", "smtp://x.org?starttls=maybe", "smtp://x.org:port", "smtp://u:geheim@"],
)
def test_a_bad_address_of_a_server_is_refused_without_telling_the_password(url: str) -> None:
    """With what is expected."""
    with pytest.raises(SettingError, match="expected smtp") as error:
        server(url)
    assert "geheim" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"public_url": "alerts.example.org"}, "TELLTALE_PUBLIC_URL"),
        ({"mail_from": "nobody"}, "TELLTALE_MAIL_FROM"),
        ({"mail_reply_to": "nobody"}, "TELLTALE_MAIL_REPLY_TO"),
    ],
)
def test_a_setting_that_would_spoil_every_mail_is_refused_at_the_start(
    tmp_path: Path, changes: dict[str, str], says: str
) -> None:
    """By its name, with what is expected."""
    given = msgspec.structs.replace(Settings(home=tmp_path), **changes)
    with closing(open_alerts(given)) as store, pytest.raises(SettingError, match=says):
        post.writer(given, store.engine)
