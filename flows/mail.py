"""Mails of one alert or of a digest, in words, from templates."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import msgspec

from flows import letter
from flows.alert import Alert
from flows.letter import Letter
from flows.links import Links, person_path
from flows.recipients import Recipient
from flows.words import Advice, Told, most_urgent_first, one_line, subject, tell

MOST_TOLD = 100  # alerts that a digest tells in full; the rest it counts
COLOURS = {"CRITICAL": "#b3261e", "HIGH": "#b25e00", "MEDIUM": "#2f6fb2", "LOW": "#5f6b76"}
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
        """A Letter. `made_at`: ms since 1970."""
        told = self.told(delivery, to, alerts)
        return self._letter(delivery, to, subject(told), self._given(delivery, to, told), made_at)

    def test(self, delivery: str, to: Recipient, alerts: Sequence[Alert], made_at: int) -> bytes:
        """One that tells that mail arrives."""
        return self._letter(delivery, to, TEST, self._given(delivery, to, []) | {"note": TEST_TEXT}, made_at)

    def _letter(self, delivery: str, to: Recipient, headline: str, given: dict[str, Any], made_at: int) -> bytes:
        made = Letter(
            boundary=f"=_{delivery}",
            sender=self.sender,
            to_name=one_line(to.name),
            to=to.email or "",
            subject=one_line(headline, 200),
            made_at=made_at,
            message_id=f"<{delivery}@{self.links.domain}>",
            reply_to=self.links.reply_address(delivery),
            unsubscribe=given["unsubscribe"],
            text=_template("mail.txt").render(given),
            html=_template("mail.html").render(given | {"subject": headline}),
        )
        return letter.encode(made)

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
