"""A mail of one alert or of a digest, whole: what is made here is what every attempt sends, byte for byte."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr
from functools import cache
from typing import Any

import msgspec

from flows.alert import Alert
from flows.links import Links, person_path
from flows.recipients import Recipient
from flows.words import Advice, Told, most_urgent_first, one_line, subject, tell

_BODY = SMTP.clone(cte_type="7bit")
_HEADERS = _BODY.clone(max_line_length=998)  # a folded List-Unsubscribe would be an encoded one, which nobody reads
MOST_TOLD = 100  # alerts that a digest tells in full; the rest it counts
COLOURS = {"CRITICAL": "#b3261e", "HIGH": "#b25e00", "MEDIUM": "#2f6fb2", "LOW": "#5f6b76"}
_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")  # RFC 5322's dot-atom
_DOMAIN = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*")
TEST, TEST_TEXT = "A test from Telltale", "This is a test. No alert stands behind it."
HOME = "/"  # the page of all alerts


class Writer(msgspec.Struct, frozen=True):
    """What all messages share. `sender`: as From has it; `tracking`: whether it shows that they were used."""

    links: Links
    advice: Advice
    sender: str = ""
    tracking: bool = True

    def link(self, delivery: str, path: str) -> str:
        return self.links.click(delivery, path) if self.tracking else self.links.plain(path)

    def told(self, delivery: str, to: Recipient, alerts: Sequence[Alert]) -> list[Told]:
        """In words, most urgent first."""
        zone = to.zone
        return [tell(a, self.advice, zone, self.link(delivery, person_path(a.user))) for a in most_urgent_first(alerts)]

    def mail(self, delivery: str, to: Recipient, alerts: Sequence[Alert], made_at: int) -> bytes:
        """RFC 5322, 7 bit, with CRLF. `made_at`: ms since 1970. One-click unsubscription is that of RFC 8058."""
        told = self.told(delivery, to, alerts)
        return self._letter(delivery, to, subject(told), self._given(delivery, to, told), made_at)

    def test(self, delivery: str, to: Recipient, alerts: Sequence[Alert], made_at: int) -> bytes:
        """That mail arrives."""
        return self._letter(delivery, to, TEST, self._given(delivery, to, []) | {"note": TEST_TEXT}, made_at)

    def _letter(self, delivery: str, to: Recipient, headline: str, given: dict[str, Any], made_at: int) -> bytes:
        message = EmailMessage(policy=_BODY)
        message["From"] = _address(self.sender)
        message["To"] = Address(one_line(to.name), addr_spec=to.email or "")
        message["Subject"] = one_line(headline, 200)
        message["Date"] = format_datetime(datetime.fromtimestamp(made_at // 1000, UTC))
        message["Message-ID"] = message_id(delivery, self.links.domain)
        if reply := self.links.reply_address(delivery):
            message["Reply-To"] = Address(addr_spec=reply)
        message["List-Unsubscribe"] = f"<{self.links.unsubscribe(delivery, to.id, 'email')}>"
        message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(_template("mail.txt").render(given))
        message.add_alternative(_template("mail.html").render(given | {"subject": headline}), subtype="html")
        message.set_boundary(f"=_{delivery}")
        return message.as_bytes(policy=_HEADERS)

    def _given(self, delivery: str, to: Recipient, told: list[Told]) -> dict[str, Any]:
        return {
            "told": told[:MOST_TOLD],
            "more": max(len(told) - MOST_TOLD, 0),
            "all": self.link(delivery, HOME),
            "name": one_line(to.name),
            "unsubscribe": self.links.unsubscribe(delivery, to.id, "email"),
            "pixel": self.links.pixel(delivery) if self.tracking else "",
            "colours": COLOURS,
            "note": "",
        }


def check_address(text: str) -> None:
    """Raises ValueError unless it is an address that a header can carry: one, plain, in ASCII."""
    local, _, domain = text.rpartition("@")
    if not (_LOCAL.fullmatch(local) and _DOMAIN.fullmatch(domain)) or len(local) > 64 or len(text) > 254:
        raise ValueError(f"expected an address as ann@example.org, got {text[:100]!r}")


def message_id(delivery: str, domain: str) -> str:
    """The same over all attempts, so that a mail that arrives twice is shown once."""
    return f"<{delivery}@{domain}>"


def _address(text: str) -> Address:
    name, spec = parseaddr(text)
    return Address(name, addr_spec=spec)


@cache
def _template(name: str) -> Any:
    """Imported when the first mail is written: 20 ms."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("flows"),
        autoescape=jinja2.select_autoescape(("html",)),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)
