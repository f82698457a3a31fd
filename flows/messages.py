"""An alert or a digest as an SMS and as a chat message: JSON of a title and a text, which apprise sends on."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from flows.alert import Alert
from flows.mail import HOME, TEST, TEST_TEXT, Writer
from flows.recipients import Recipient
from flows.words import Told, subject

SMS_LENGTH = 300  # characters, link and all: two parts where letters are plain
LINK_LENGTH = 140  # a longer one of a person leads to the page of all instead
_CALLS = re.compile(r"@(?=everyone|here|channel|all\b)|<(?=[!@#])")  # what makes Slack, Discord and others ring at all
CHAT_TOLD = 10  # alerts that a chat message tells; the rest it counts


class Message(msgspec.Struct, frozen=True):
    """Plain text."""

    title: str
    text: str


def sms(writer: Writer, delivery: str, to: Recipient, alerts: Sequence[Alert], made_at: int) -> bytes:
    """What it is, the first reason as far as there is room, and where to look."""
    told = writer.told(delivery, to, alerts)
    own = told[0].link if len(told) == 1 else ""
    link = own if 0 < len(own) <= LINK_LENGTH else writer.link(delivery, HOME)
    reason = f" {told[0].reasons[0]}." if len(told) == 1 and told[0].reasons else ""
    said = f"{subject(told)}.{reason}"
    room = SMS_LENGTH - len(link) - 1
    short = said if len(said) <= room else f"{said[: room - 1]}…"
    return msgspec.json.encode(Message("", f"{short}\n{link}"))


def test(delivery: str, to: Recipient, alerts: Sequence[Alert], made_at: int) -> bytes:
    """That messages arrive."""
    return msgspec.json.encode(Message(TEST, f"{TEST_TEXT} ({to.name})"))


def chat(writer: Writer, delivery: str, to: Recipient, alerts: Sequence[Alert], made_at: int) -> bytes:
    """Each alert with its reasons and what to do."""
    told = writer.told(delivery, to, alerts)
    said = [_paragraph(one, alone=len(told) == 1) for one in told[:CHAT_TOLD]]
    if len(told) > CHAT_TOLD:
        said.append(f"And {len(told) - CHAT_TOLD} more: {writer.link(delivery, HOME)}")
    return msgspec.json.encode(Message(uncalled(subject(told)), uncalled("\n\n".join(said))))


def uncalled(text: str) -> str:
    """With nobody called by what somebody's id or a reason says: a space of no width parts the sign from the word."""
    return _CALLS.sub(lambda found: f"{found[0]}\u200b", text)


def _paragraph(one: Told, *, alone: bool) -> str:
    head = [] if alone else [one.title]
    return "\n".join([*head, *(f"- {reason}" for reason in one.reasons), f"What to do: {one.advice}", one.link])
