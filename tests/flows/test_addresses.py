"""Nothing inside is reached, however its address is written and whatever a name resolves to."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from feature_repo.networks import Network, networks
from feature_repo.settings import SettingError, load
from flows.addresses import RefusedError, check_address, check_url
from flows.web import Unreached, Web
from tests.flows import hostile
from tests.flows.receivers import receivers

OUTSIDE = ("8.8.8.8", "1.1.1.1", "93.184.216.34", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450:4001::8")
_listeners: list[list[str]] = []


def _hear(event: str, told: tuple[object, ...]) -> None:
    if _listeners and event == "socket.connect":
        where = told[1]
        _listeners[-1].append(str(where[0]) if isinstance(where, tuple) else str(where))


sys.addaudithook(_hear)  # the interpreter tells of each connect, whoever asks for it


@contextmanager
def connects() -> Iterator[list[str]]:
    """The addresses that a socket of this process was connected to meanwhile."""
    _listeners.append([])
    try:
        yield _listeners[-1]
    finally:
        _listeners.pop()


class Names(AbstractResolver):
    """Answers as it is told, with any other answer each time, where there are several."""

    def __init__(self, answers: dict[str, list[list[str]]]) -> None:
        self.answers, self.asked = answers, list[str]()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked.append(host)
        answers = self.answers.get(host, [[]])
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        if not addresses:
            raise OSError(f"nobody knows {host}")
        return [_resolved(host, address, port) for address in addresses]

    async def close(self) -> None:
        """Nothing stays open."""


def _resolved(host: str, address: str, port: int) -> ResolveResult:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)


async def send_all(urls: Sequence[str], names: Names, allowed: Sequence[Network] = ()) -> list[object]:
    web = Web(allowed, names)
    try:
        tries = (asyncio.wait_for(web.send("POST", url, b"{}", {}), 5) for url in urls)
        return await asyncio.gather(*tries, return_exceptions=True)
    finally:
        await web.close()


async def attack() -> tuple[int, int, list[object]]:
    """Connections that a listener inside counted, how many URLs there were, and what came of each."""
    async with receivers("127.0.0.1") as ends, receivers("::1") as ends6:
        urls = list(dict.fromkeys(url for port in (ends.port, ends6.port) for url in hostile.urls(port)))
        answers = {name.rstrip("."): [addresses] for name, addresses in hostile.NAMES.items()}
        names = Names(answers | {name.encode("idna").decode(): told for name, told in answers.items()})
        with connects() as tried:
            results = await send_all(urls, names)
        assert tried == []
        assert len(set(names.asked)) >= len(hostile.NAMES) - 1
        return ends.opened + ends6.opened, len(urls), results


def test_of_all_hostile_urls_none_reaches_anything() -> None:
    """A listener inside counts no connection, and no socket of ours is even connected."""
    opened, many, results = asyncio.run(attack())
    assert opened == 0
    assert many >= 300
    assert [result for result in results if not isinstance(result, RefusedError | Unreached)] == []


def test_the_address_alone_is_enough_to_refuse_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the URL was not looked at: sockets are the guard, and the look at a URL is for who enters it."""
    monkeypatch.setattr("flows.web.check_url", lambda text, _: URL(text))
    opened, _, results = asyncio.run(attack())
    assert opened == 0
    assert sum(isinstance(result, RefusedError) for result in results) >= 150


def test_the_listener_would_be_reached_if_it_were_allowed() -> None:
    """So the counts above can be other than 0: the same URLs and names, with loopback allowed."""

    async def test() -> tuple[int, list[str], list[object]]:
        async with receivers() as ends:
            names = Names({"loopback.example": [["127.0.0.1"]]})
            urls = [f"http://127.0.0.1:{ends.port}/hook", f"http://loopback.example:{ends.port}/hook"]
            with connects() as tried:
                results = await send_all(urls, names, networks("127.0.0.0/8"))
            return ends.opened, tried, results

    opened, tried, results = asyncio.run(test())
    assert opened == len(tried) == 2
    assert [getattr(result, "status", result) for result in results] == [200, 200]


def test_a_name_that_changes_its_mind_gains_nothing() -> None:
    """What is connected to is what was checked: there is no second look-up in between."""

    async def test() -> tuple[int, list[str], list[str], list[object]]:
        async with receivers() as ends:
            names = Names({"rebinding.example": [["203.0.113.7"], ["127.0.0.1"]]})
            with connects() as tried:
                results = await send_all([f"http://rebinding.example:{ends.port}/hook"] * 2, names)
            return ends.opened, tried, names.asked, results

    opened, tried, asked, results = asyncio.run(test())
    assert (opened, tried) == (0, [])
    assert asked[0] == "rebinding.example"
    assert all(isinstance(result, RefusedError) for result in results)


def test_of_several_addresses_those_inside_are_passed_over() -> None:
    """Each address is asked about by itself, when its turn comes."""

    async def test() -> tuple[int, list[str]]:
        async with receivers() as ends:
            names = Names({"mixed.example": [["10.0.0.1", "169.254.169.254", "127.0.0.1"]]})
            with connects() as tried:
                await send_all([f"http://mixed.example:{ends.port}/hook"], names, networks("127.0.0.1/32"))
            return ends.opened, tried

    assert asyncio.run(test()) == (1, ["127.0.0.1"])


@pytest.mark.parametrize("address", OUTSIDE)
def test_public_addresses_are_sent_to(address: str) -> None:
    """Also those that lie next to what is refused."""
    check_address(address)
    host = f"[{address}]" if ":" in address else address
    assert check_url(f"https://{host}:8443/hook?a=b").path == "/hook"


@pytest.mark.parametrize(
    "block", ["10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3", "64:ff9b::/96", "fc00::/7"]
)
def test_a_block_is_refused_to_its_ends(block: str) -> None:
    """Its first address and its last."""
    network = ipaddress.ip_network(block)
    for address in (network.network_address, network.broadcast_address):
        with pytest.raises(RefusedError, match="not a public address"):
            check_address(str(address))


def test_a_network_inside_can_be_allowed() -> None:
    """That network, and no other; what is no network is named."""
    allowed = networks(" 10.1.0.0/16, fd00:1::/64 ,")
    check_address("10.1.2.3", allowed)
    check_address("fd00:1::9", allowed)
    with pytest.raises(RefusedError):
        check_address("10.2.0.1", allowed)
    with pytest.raises(SettingError, match=r"TELLTALE_WEBHOOK_ALLOW='10\.1\.0\.1/16'"):
        load({"TELLTALE_WEBHOOK_ALLOW": "10.1.0.1/16"})


@pytest.mark.parametrize("url", ["https://]", "http://[", "//]", "https://a]b/", "https://[::1"])
def test_what_is_no_url_is_refused_as_such(url: str) -> None:
    """Brackets that stand for no address."""
    with pytest.raises(RefusedError):
        check_url(url)
