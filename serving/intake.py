"""From a call to columns: whose it is, when it happened, which event it is, what it measures.

Knows nothing of HTTP or Redis. What depends on the vocabulary is looked up once and kept.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

import msgspec
import xxhash

from feature_repo.declare import EventType, Trait
from feature_repo.moments import milliseconds
from feature_repo.traits import bits
from feature_repo.vocabulary import SILENT, UNKNOWN, Vocabulary
from flows.entry import ANONYMOUS, Draft
from flows.store import Store
from serving.append import Group
from serving.messages import EVENT_BYTES, ID_BYTES, Call, Identify, Message, Track

HOUR = 3_600_000
TEN_YEARS = 3_653 * 24 * HOUR
MAX_FIXED = 1 << 40  # of one event's value x scale, so that sums over 90 days stay far from 2^63
MAX_NAMES = 10_000  # event names remembered
MAX_LISTED = 1_000  # unknown event names counted by name
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_ABSENT = (b"", b"null")


class Rejected(ValueError):
    """A call that is not stored: which field is wrong, and how."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(detail)
        self.field, self.detail = field, detail


class Sender(msgspec.Struct, frozen=True):
    """What holds for all calls of a request: whose they are, when they came (ms), and which append takes them."""

    organisation: bytes
    received: int
    group: Group
    sent: datetime | None = None
    history: bool = False


class Plan(msgspec.Struct, frozen=True):
    """What to do with one event name: its code, and where its value and tag stand, if it has any."""

    code: int
    read: Callable[[bytes], Any] | None = None
    value: str = ""
    scale: int = 1
    tags: dict[str, int] = {}


class Intake:
    """Puts calls into the drafts of a group. One for each process."""

    def __init__(self, vocabulary: Vocabulary, store: Store) -> None:
        self._vocabulary, self._seed, self._partitions = vocabulary, store.seed, store.partitions
        self._moment = corrected if store.clock == "wall" else told
        self._hour = HOUR if store.clock == "log" else 0
        self._plans: dict[str, Plan | None] = {}
        self._known = {event.name: _plan(event, vocabulary) for event in vocabulary.events}
        self._traits = _properties({f"t{i}": trait.name for i, trait in enumerate(vocabulary.traits)})
        self._listed: set[str] = set()
        self._takers: dict[type, Callable[[Any, bytes, Sender], str | None]] = {
            Track: self._track,
            Identify: self._identify,
        }

    def take(self, message: Call, raw: bytes, sender: Sender) -> str | None:
        """Adds one call; returns the name of its event when that is unknown. Raises Rejected, and then adds nothing."""
        if len(raw) > EVENT_BYTES:
            raise Rejected("body", f"expected at most {EVENT_BYTES} bytes an event, got {len(raw)}")
        if message.messageId is None:
            message.messageId = str(uuid.uuid4())
            raw = with_field(raw, "messageId", message.messageId)
        taker = self._takers.get(type(message), self._silent)
        return taker(message, raw, sender)

    def _track(self, message: Track, raw: bytes, sender: Sender) -> str | None:
        plan = self._plan(message.event)
        if plan is None:
            self._add(message, raw, sender, (UNKNOWN, 0))
            self._list(message.event, sender.group)
            return message.event
        measured = _measured(plan, plan.read, message.properties) if plan.read else (plan.code, 0)
        self._add(message, raw, sender, measured)
        return None

    def _identify(self, message: Identify, raw: bytes, sender: Sender) -> None:
        traits = self._told_traits(message.traits)
        user, anonymous = person(message.userId, "userId"), person(message.anonymousId, "anonymousId")
        draft, index = self._add(message, raw, sender, (SILENT, 0))
        draft.traits.extend((index, trait, value) for trait, value in traits)
        if user and anonymous:
            self._join(sender, draft.ts[index], ANONYMOUS + anonymous, draft.names[index])

    def _silent(self, message: Message, raw: bytes, sender: Sender) -> None:
        self._add(message, raw, sender, (SILENT, 0))

    def _add(self, message: Message, raw: bytes, sender: Sender, measured: tuple[int, int]) -> tuple[Draft, int]:
        name = sender.organisation + b"/" + who(message)
        ts = self._moment(message, sender)
        uid = xxhash.xxh3_64_intdigest(name, self._seed)
        mid = xxhash.xxh3_64_intdigest(b"%b\0%b" % (sender.organisation, _utf8(message.messageId)), self._seed)
        draft = self._draft(uid, ts, sender)
        return draft, draft.add(uid, name, mid or 1, ts, *measured, raw)

    def _join(self, sender: Sender, ts: int, anonymous: str, user: bytes) -> None:
        """A row without message id, which is nobody's event: the anonymous person is this user."""
        name = sender.organisation + b"/" + _utf8(anonymous)
        uid = xxhash.xxh3_64_intdigest(name, self._seed)
        draft = self._draft(uid, ts, sender)
        draft.joins.append((draft.add(uid, name, 0, ts), user))

    def _draft(self, uid: int, ts: int, sender: Sender) -> Draft:
        hour = ts // self._hour if self._hour else 0
        return sender.group.draft(uid % self._partitions, sender.history, hour=hour)

    def _plan(self, name: str) -> Plan | None:
        try:
            return self._plans[name]
        except KeyError:
            if len(self._plans) >= MAX_NAMES:
                self._plans.clear()
            event = self._vocabulary.named(name)
            self._plans[name] = self._known[event.name] if event else None
            return self._plans[name]

    def list_unknown(self, names: Iterable[str]) -> None:
        """Unknown event names that the store counts already."""
        self._listed.update(names)

    def _list(self, name: str, group: Group) -> None:
        if name in self._listed or len(self._listed) < MAX_LISTED:
            self._listed.add(name)
            group.unknown[name] += 1

    def _told_traits(self, traits: msgspec.Raw) -> list[tuple[int, int]]:
        """(trait id, value bits) of each known trait that is told."""
        told = _object(self._traits, traits, "traits")
        if told is None:
            return []
        given = ((trait, getattr(told, f"t{i}")) for i, trait in enumerate(self._vocabulary.traits))
        return [(i, _told_bits(trait, value)) for i, (trait, value) in enumerate(given) if value is not None]


def with_field(raw: bytes, name: str, value: str) -> bytes:
    """A JSON object with one more member, in front."""
    return b"{%b:%b,%b" % (msgspec.json.encode(name), msgspec.json.encode(value), raw.lstrip()[1:])


def who(message: Message) -> bytes:
    """The person's name within the organisation. Raises Rejected."""
    user = person(message.userId, "userId")
    if user:
        if user.startswith(ANONYMOUS):
            raise Rejected("userId", f"{ANONYMOUS} at the start stands for anonymous people: send an anonymousId")
        return user.encode()
    anonymous = person(message.anonymousId, "anonymousId")
    if not anonymous:
        raise Rejected("userId", "expected a userId or an anonymousId, got neither")
    return (ANONYMOUS + anonymous).encode()


def person(given: str | int | None, field: str) -> str:
    """An id as text; empty when there is none. Raises Rejected."""
    if given is None:
        return ""
    if isinstance(given, int):
        if abs(given) >> 63:
            raise Rejected(field, "expected a text, or a number of at most 63 bits")
        return str(given)
    if len(given) > ID_BYTES // 4 and len(given.encode()) > ID_BYTES:
        raise Rejected(field, f"expected at most {ID_BYTES} bytes, got {len(given.encode())}")
    if not given.isprintable() and _CONTROL.search(given):
        raise Rejected(field, "expected no control characters")
    return given


def corrected(message: Message, sender: Sender) -> int:
    """When it happened, the error of the sender's clock taken out: received - (sent - original), as Segment does.

    Raises Rejected before 1970 and more than an hour from now.
    """
    original = message.originalTimestamp or message.timestamp
    if original is None:
        return sender.received
    sent = message.sentAt or sender.sent
    ts = milliseconds(original)
    if sent is not None:
        ts += sender.received - milliseconds(sent)
    return _within(ts, sender.received + HOUR, "an hour")


def told(message: Message, sender: Sender) -> int:
    """When it happened, as told: in a store that runs on event time nothing else is known. Raises Rejected."""
    original = message.originalTimestamp or message.timestamp
    if original is None:
        raise Rejected("timestamp", "a store that runs on event time needs a timestamp on every call")
    return _within(milliseconds(original), sender.received + TEN_YEARS, "ten years")


def _within(ts: int, latest: int, ahead: str) -> int:
    if ts < 0:
        raise Rejected("timestamp", "expected a time after 1970")
    if ts > latest:
        raise Rejected("timestamp", f"expected a time at most {ahead} ahead of now")
    return ts


def _plan(event: EventType, vocabulary: Vocabulary) -> Plan:
    code = vocabulary.code[event.name, None]
    names = {role: name for role, name in (("value", event.value), ("tag", event.tag)) if name}
    if not names:
        return Plan(code)
    tags = {tag.lower(): vocabulary.code[event.name, tag] for tag in event.tags}
    return Plan(code, _properties(names), event.value or "", event.scale, tags)


def _properties(names: dict[str, str]) -> Callable[[bytes], Any]:
    """A decoder of just these properties: field of the result -> name in the JSON."""
    fields = [(field, Any, None) for field in names]
    return msgspec.json.Decoder(msgspec.defstruct("Properties", fields, rename=names)).decode


def _object(read: Callable[[bytes], Any], given: msgspec.Raw, field: str) -> Any:
    raw = bytes(given)
    if raw in _ABSENT:
        return None
    if raw[:1] != b"{":
        raise Rejected(field, f"expected an object, got {raw[:40].decode(errors='replace')}")
    try:
        return read(raw)
    except msgspec.MsgspecError as error:
        raise Rejected(field, str(error)[:200]) from None


def _measured(plan: Plan, read: Callable[[bytes], Any], properties: msgspec.Raw) -> tuple[int, int]:
    """(code, fixed-point value)."""
    told = _object(read, properties, "properties")
    if told is None:
        return plan.code, 0
    tag = getattr(told, "tag", None)
    code = plan.tags.get(tag.strip().lower(), plan.code) if isinstance(tag, str) else plan.code
    value = getattr(told, "value", None)
    return code, 0 if value is None else fixed(value, plan)


def fixed(value: Any, plan: Plan) -> int:
    """A measure in fixed point. Raises Rejected unless it is a number from 0 to MAX_FIXED / scale."""
    number = type(value) in (int, float)
    if not number or not 0 <= value <= MAX_FIXED / plan.scale:
        shown = f"{value!r:.60}" if number else type(value).__name__
        raise Rejected(f"properties.{plan.value}", f"expected 0 to {MAX_FIXED / plan.scale:.0f}, got {shown}")
    return round(value * plan.scale)


def _told_bits(trait: Trait, value: Any) -> int:
    try:
        return bits(trait, value)
    except ValueError as error:
        raise Rejected(f"traits.{trait.name}", str(error)) from None


def _utf8(text: str | None) -> bytes:
    return (text or "").encode()
