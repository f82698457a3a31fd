"""SMS and chat by apprise against real sockets: what arrives, what hangs, and what is never connected to."""

from __future__ import annotations

import asyncio
import select
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_network

import pytest

from feature_repo.networks import Network
from flows.apprise_channel import AppriseChannel, UnfitError, check_service, without_secrets
from flows.channel import Dead, Parcel, Result, Retry, Sent
from tests.live import ROOT

pytestmark = pytest.mark.filterwarnings("ignore:.*imghdr:DeprecationWarning")  # one of apprise's plugins has it
HERE = (ip_network("127.0.0.0/8"),)
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def parcel(target: str = "rc_ann/1") -> Parcel:
    return Parcel(
        id="dl_1", organisation="acme", channel="chat", target=target, alerts=("al_1",),
        body=b'{"title":"likely to sell: ann","text":"called twice"}', attempt=1, created_at=0,
    )  # fmt: skip


class Server:
    """Counts who connects, then answers, says nothing, or drips."""

    def __init__(self, answer: bytes | None) -> None:
        self.answer, self.connections, self.port = answer, 0, 0

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await reader.readuntil(b"\r\n\r\n")
            if self.answer is None:
                await reader.read()  # until the other side gives up
            else:
                writer.write(self.answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


@asynccontextmanager
async def served(answer: bytes | None) -> AsyncIterator[Server]:
    server = Server(answer)
    async with await asyncio.start_server(server.take, "127.0.0.1", 0) as listening:
        server.port = listening.sockets[0].getsockname()[1]
        yield server


def answered(status: str, *headers: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "Content-Length: 0", "Connection: close", "", ""]).encode()


async def said(answer: bytes, url: str = "json://127.0.0.1:{port}/a", *, allowed: bool = True) -> tuple[Result, int]:
    """What came of it, and how often the server was connected to."""
    async with served(answer) as server:
        channel = AppriseChannel("chat", HERE if allowed else ())
        result = await channel.send(parcel(), url.format(port=server.port))
        return result, server.connections


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (answered("200 OK"), Sent),
        (answered("500 Internal Server Error"), Retry),
        (answered("302 Found", "Location: http://127.0.0.1:1/"), Retry),
        (b"no http at all\r\n\r\n", Retry),
    ],
)
def test_what_the_service_answers_decides(answer: bytes, expected: type[Result]) -> None:
    """A redirect is a failure: it is not followed."""
    result, connections = asyncio.run(said(answer))
    assert isinstance(result, expected)
    assert connections == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "2130706433", "[::ffff:127.0.0.1]", "0x7f000001"])
def test_no_service_inside_is_connected_to(host: str) -> None:
    """However it is written: what counts is the address that a socket is about to connect to."""
    result, connections = asyncio.run(said(answered("200 OK"), f"json://{host}:{{port}}/a", allowed=False))
    assert isinstance(result, Retry | Dead)
    assert connections == 0


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # the library leaves one that is refused
@pytest.mark.parametrize(("allowed", "came"), [((), False), (HERE, True)])
def test_nothing_inside_gets_a_datagram(allowed: tuple[Network, ...], came: bool) -> None:
    """UDP needs no connection."""

    async def talk() -> Result:
        return await AppriseChannel("chat", allowed).send(parcel(), f"rsyslog://127.0.0.1:{port}/local7")

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.setblocking(False)
        port = listening.getsockname()[1]
        assert isinstance(asyncio.run(talk()), Sent if came else Retry)
        assert bool(select.select([listening], [], [], 0.0)[0]) == came


def test_a_service_that_hangs_keeps_one_thread_and_nobody_else() -> None:
    """Until its own time-out ends it; meanwhile the target is not tried again, and others are."""

    async def talk() -> None:
        async with served(None) as hung, served(answered("200 OK")) as good:
            channel = AppriseChannel("chat", HERE)
            url = f"json://127.0.0.1:{hung.port}/?rto=1"
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await channel.send(parcel(), url)
            assert await channel.send(parcel(), url) == Retry("the attempt before has not come to its end")
            assert isinstance(await channel.send(parcel("rc_bob/1"), f"json://127.0.0.1:{good.port}/"), Sent)
            assert hung.connections == 1
            async with asyncio.timeout(5):
                while channel._busy:  # noqa: ASYNC110 # threads ring no bell
                    await asyncio.sleep(0.02)

    asyncio.run(talk())


def test_threads_that_do_not_come_back_are_bounded() -> None:
    """A service that drips holds its thread for as long as it likes; beyond the bound no further one is begun."""

    async def talk() -> None:
        async with served(None) as hung:
            channel = AppriseChannel("chat", HERE)
            channel.most = 2
            url = f"json://127.0.0.1:{hung.port}/?rto=1"
            for name in ("ann", "bob"):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.2):
                        await channel.send(parcel(name), url)
            assert await channel.send(parcel("eve"), url) == Retry(
                "too many attempts before have not come to their ends"
            )
            assert hung.connections == 2
            async with asyncio.timeout(5):
                while channel._busy:  # noqa: ASYNC110 # threads ring no bell
                    await asyncio.sleep(0.02)

    asyncio.run(talk())


@pytest.mark.parametrize("value", ["1e9", "inf", "nan", "0", "-1", "21", "%31e9", "soon", ""])
@pytest.mark.parametrize("option", ["rto", "cto", "%52TO"])
def test_no_url_has_a_thread_wait_for_long(option: str, value: str) -> None:
    """Times come from whoever entered the URL."""
    check_service("json://x.org/?rto=20&cto=0.5")
    with pytest.raises(UnfitError, match="expected seconds"):
        check_service(f"json://x.org/?cto=5&{option}={value}")


@pytest.mark.parametrize(
    "url",
    [
        "syslog://",
        "windows://",
        "dbus://",
        "macosx://",
        "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/?template=/etc/passwd",
        "json://x.org/?+template=/etc/passwd",
        "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/?a=1;%74EMPLATE=/etc/passwd",
        "fcm://project@apikey/DEVICE?keyfile=/etc/passwd",
        "no url",
        "json://x.org/\nX: y",
    ],
)
def test_what_would_act_here_or_read_files_is_refused(url: str) -> None:
    """Whoever has a write key has no business on this machine."""
    with pytest.raises(ValueError, match=r"would|expected"):
        check_service(url)


def test_an_error_tells_no_part_of_the_url() -> None:
    """However the library spells it."""
    url = "json://bob:pa%20ss-word@chat.example.org/token123?key=value99"
    text = "cannot reach http://chat.example.org/token123 as bob:pa ss-word, pa%20ss-word (value99)"
    left = without_secrets(text, url)
    assert not any(part in left for part in ("token123", "pa ss-word", "pa%20ss-word", "value99"))


@pytest.mark.parametrize("process", ["serving.app", "flows.delivering"])
def test_the_library_stays_out_until_it_is_needed(process: str) -> None:
    """It takes a third of a second and 45 MB."""
    code = f"import sys, {process}; print('apprise' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
