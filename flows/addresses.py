"""Which addresses may be sent to: public ones, and the networks that the operator allows. Everything else is refused.

Asked twice: of a URL when somebody enters it, so that they are told, and of the address itself when a socket is about
to connect to it. Only the second keeps anybody out: a name may resolve to something else a moment later.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

from yarl import URL

from feature_repo.networks import Network

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

MOST_URL = 2_000  # characters
PORTS = frozenset({80, 443})  # below 1024; those above but for:
NO_WEB = frozenset({1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6679, 6697, 10080}) | set(
    range(6665, 6670)
)  # what browsers refuse too (https://fetch.spec.whatwg.org/#port-blocking)
PUBLIC_6 = ipaddress.ip_network(
    "2000::/3"
)  # all that IANA gives to the public; the rest is local, mapped or translated
INSIDE: tuple[Network, ...] = tuple(
    ipaddress.ip_network(text)
    for text in (
        "168.63.129.16/32",  # Azure's host, from inside its machines
        "192.0.0.0/24",  # IETF's, Oracle's metadata
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # 6to4 relays
        "192.175.48.0/24",  # AS112
        "2001::/23",  # IETF's: Teredo, ORCHID, benchmarks
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: an IPv4 address inside
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
)
ISATAP = (0x0000_5EFE, 0x0200_5EFE)  # in an interface's id: an IPv4 address follows
_NUMERIC = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)\.?", re.IGNORECASE)  # a last label that makes a host an IPv4 address
_ODD = re.compile(r"[\x00-\x20\x7f\\]")


class RefusedError(OSError):
    """An address, or a URL, that is not sent to."""


def check_address(text: str, allowed: Sequence[Network] = ()) -> None:
    """Raises RefusedError unless it is public, or in a network that is allowed."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise RefusedError(f"{text[:100]} is no IP address") from None
    if any(address in network for network in allowed if network.version == address.version):
        return
    if not public(address):
        raise RefusedError(f"{address} is not a public address")


def public(address: Address) -> bool:
    """Whether it is unicast, reachable from everywhere, and no other address stands behind it."""
    if any(address in network for network in INSIDE if network.version == address.version):
        return False
    if address.is_multicast or address.is_reserved or not address.is_global:
        return False
    if isinstance(address, ipaddress.IPv4Address):
        return True
    return address in PUBLIC_6 and address.scope_id is None and int(address) >> 32 & 0xFFFF_FFFF not in ISATAP


def check_url(text: str, allowed: Sequence[Network] = ()) -> URL:
    """A URL that may be sent to, as far as it can be told without asking for its name. Raises RefusedError."""
    if len(text) > MOST_URL or _ODD.search(text) or not text.isprintable():
        raise RefusedError(f"expected at most {MOST_URL} characters, without blanks, backslashes or control characters")
    try:
        url = URL(text)
        host, port = url.raw_host, url.port
    except (ValueError, IndexError) as error:  # IndexError: yarl's, of `//]`
        raise RefusedError(f"expected a URL: {error}") from None
    if url.scheme not in {"http", "https"} or not host:
        raise RefusedError(f"expected https://host/path, got {text[:100]!r}")
    if url.raw_user is not None or url.raw_password is not None or "@" in url.raw_authority:
        raise RefusedError("expected no user name or password in it")
    if url.raw_fragment:
        raise RefusedError("expected no fragment (#...) in it")
    _check_port(port)
    _check_host(host, allowed)
    return url


def _check_port(port: int | None) -> None:
    if port is None or not (port in PORTS or port >= 1024) or port in NO_WEB:
        raise RefusedError(f"port {port} is none that webhooks are received at: 80, 443, or one from 1024 on")


def _check_host(host: str, allowed: Sequence[Network]) -> None:
    """Addresses as they are; names whose end is a number are addresses in disguise (0x7f.1, 2130706433)."""
    last = host.rstrip(".").rpartition(".")[2]
    if ":" in host or "%" in host or _NUMERIC.fullmatch(last):
        check_address(host, allowed)
    elif last == "localhost":
        if not any(network.is_loopback for network in allowed):
            raise RefusedError(f"{host} is not a public address")
    elif not last:
        raise RefusedError("expected the name of a host")
