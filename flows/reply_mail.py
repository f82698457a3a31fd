"""An answer to a mail of ours, read out of what a mail server hands on (RFC 5322)."""

from __future__ import annotations

import hashlib
import re
from email import message_from_bytes
from email.message import Message
from email.utils import getaddresses

import msgspec

from flows.links import Links
from flows.tracking import MOST_TEXT, Reply

TO = ("to", "cc", "delivered-to", "x-original-to", "envelope-to")  # where the address for replies may stand
ANSWERS = ("in-reply-to", "references")
_OURS = re.compile(r"<(dl_[0-9a-f]{32})@")
_QUOTED = re.compile(r"^(>|On .{5,200} wrote:$|-{2,}\s*Original Message|_{10,}$|From: )", re.IGNORECASE)


class Answer(msgspec.Struct, frozen=True):
    """Which of our deliveries it answers, as far as it says."""

    delivery: str
    reply: Reply


def read(raw: bytes, links: Links, now_ms: int) -> Answer | None:
    """None where it answers nothing of ours."""
    mail = message_from_bytes(raw)
    delivery = answered(links, [str(v) for n in TO for v in mail.get_all(n, [])], _all(mail, ANSWERS))
    if delivery is None:
        return None
    sender = next((address for _, address in getaddresses(_texts(mail, "from")) if address), "")
    own = " ".join(_texts(mail, "message-id"))[:255].strip() or hashlib.blake2b(raw, digest_size=16).hexdigest()
    reply = Reply(message_id=own, at=now_ms, sender=sender[:254], text=own_words(_text(mail)), automatic=_machine(mail))
    return Answer(delivery, reply)


def answered(links: Links, to: list[str], references: str) -> str | None:
    """The delivery by the address that it was sent to, which cannot be made up, or else by the ids that it names."""
    for _, address in getaddresses(to):
        if found := links.replied(address):
            return found
    named = _OURS.findall(references)
    return str(named[-1]) if named else None


def own_words(text: str) -> str:
    """Without what it quotes."""
    kept: list[str] = []
    for line in text.splitlines():
        if _QUOTED.match(line.strip()):
            break
        kept.append(line.rstrip())
    return "\n".join(kept).strip()[:MOST_TEXT]


def _machine(mail: Message) -> bool:
    """RFC 3834, and what came before it."""
    auto = " ".join(_texts(mail, "auto-submitted")).strip().lower()
    bulk = " ".join(_texts(mail, "precedence")).strip().lower() in {"bulk", "auto_reply", "junk", "list"}
    return auto not in {"", "no"} or bulk or mail.get("x-autoreply") is not None


def _all(mail: Message, names: tuple[str, ...]) -> str:
    return " ".join(text for name in names for text in _texts(mail, name))


def _texts(mail: Message, name: str) -> list[str]:
    return [str(value) for value in mail.get_all(name, [])]


def _text(mail: Message) -> str:
    """The first part of plain text."""
    for part in mail.walk():
        if part.get_content_type() == "text/plain":
            body = part.get_payload(decode=True)
            return _decoded(body, part.get_content_charset() or "utf-8") if isinstance(body, bytes) else ""
    return ""


def _decoded(body: bytes, charset: str) -> str:
    try:
        return body.decode(charset, errors="replace")
    except (LookupError, ValueError):  # no charset, or, as with a NUL in it, no name of one
        return body.decode(errors="replace")
