"""People who are told of alerts: where they are reached, and when they want to be."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal
from zoneinfo import ZoneInfo

import msgspec
import sqlalchemy as sa

from flows.kept import Kept, table
from flows.local_time import Quiet

Pace = Literal["at_once", "hourly", "daily"]
Personal = Literal["email", "sms", "chat"]  # the channels that reach a person
PERSONAL: tuple[Personal, ...] = ("email", "sms", "chat")


class Recipient(msgspec.Struct, frozen=True, kw_only=True):
    """One person of an organisation. `sms` and `chat` are apprise URLs, which hold secrets; times are ms since 1970.

    `daily_cap`: messages of all channels that a day of theirs may bring; what comes on top is told in a digest of a
    later day. `digest_at`: the minute of their day at which a daily digest is due.
    """

    id: str
    organisation: str
    name: str
    email: str | None = None
    sms: tuple[str, ...] = ()
    chat: tuple[str, ...] = ()
    time_zone: str = "UTC"
    quiet: Quiet | None = None
    daily_cap: int | None = None
    digest: Pace = "at_once"
    digest_at: int = 8 * 60
    unsubscribed: tuple[Personal, ...] = ()
    created_at: int = 0
    updated_at: int = 0

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.time_zone)

    def targets(self, channel: Personal) -> tuple[str, ...]:
        """What a delivery names as its target: the person, and behind a slash which of their addresses."""
        if channel == "email":
            return (self.id,) if self.email else ()
        return tuple(f"{self.id}/{fingerprint(url)}" for url in self.addresses(channel))

    def addresses(self, channel: Personal) -> tuple[str, ...]:
        """Where the channel reaches them."""
        if channel == "email":
            return (self.email,) if self.email else ()
        return self.sms if channel == "sms" else self.chat

    def address(self, channel: Personal, target: str) -> str | None:
        """The address of a target; None where it is not theirs any more."""
        return dict(zip(self.targets(channel), self.addresses(channel), strict=True)).get(target)


def fingerprint(address: str) -> str:
    """Tells addresses apart without telling them."""
    return hashlib.blake2b(address.encode(), digest_size=6).hexdigest()


def person(target: str) -> str:
    """The recipient's id in a delivery's target."""
    return target.partition("/")[0]


recipients = Kept(table("recipients"), Recipient)


def reachable(connection: sa.Connection, channel: Personal, targets: Sequence[str]) -> dict[str, str]:
    """The addresses behind those of the targets whom the channel may still reach."""
    people = {one.id: one for one in recipients.of_ids(connection, {person(target) for target in targets})}
    found = {target: people.get(person(target)) for target in targets}
    return {
        target: address
        for target, whom in found.items()
        if whom and channel not in whom.unsubscribed and (address := whom.address(channel, target))
    }
