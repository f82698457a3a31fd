"""Which alerts go where: an organisation's rules, its people's wishes, and what holds where nobody said anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import msgspec
import sqlalchemy as sa

from flows import webhooks
from flows.alert import Alert
from flows.alert_store import Stored, alerts, stored
from flows.channel import NewDelivery, Parcel, Plan, delivery_id
from flows.crm import CRM, CrmTarget, crm_targets
from flows.everywhere import IN_APP
from flows.mail import Writer
from flows.messages import chat, sms, test
from flows.pacing import Pacer, Place, digest_of
from flows.recipients import PERSONAL, Recipient, person, recipients
from flows.routing_rules import EVERY, Rule, To, applying, rules

T = TypeVar("T", Recipient, CrmTarget)
MANY = 500  # ids a query
Body = Callable[[str, Recipient, Sequence[Alert], int], bytes]  # delivery, to whom, of what, when it was made


class Book(msgspec.Struct, frozen=True):
    """What the organisations of some alerts have told us, by their names."""

    rules: dict[str, list[Rule]]
    people: dict[str, Recipient]
    crms: dict[str, CrmTarget]


class Routing:
    """A `Plan`. `usual`: where alerts go of which no rule says anything, and what each webhook is sent."""

    def __init__(self, usual: Plan, writer: Writer) -> None:
        self.usual, self.writer = usual, writer
        self._bodies: dict[str, Body] = {
            "email": writer.mail,
            "sms": partial(sms, writer),
            "chat": partial(chat, writer),
        }
        self._tests: dict[str, Body] = {"email": writer.test, "sms": test, "chat": test}

    def deliveries(self, connection: sa.Connection, new: Sequence[Stored], now_ms: int) -> list[NewDelivery]:
        """Each alert by the rules that apply, or as usual; each pair of channel and target once."""
        usual = _by_alert(self.usual.deliveries(connection, new, now_ms))
        book, pacer = _book(connection, {one.alert.organisation for one in new}), Pacer(connection, now_ms)
        found: list[NewDelivery] = []
        for one in new:
            decided = applying(book.rules[one.alert.organisation], one.alert)
            ours = usual.get(one.alert.id, [])
            found += self._by_rules(one.alert, decided, ours, book, pacer) if decided else ours
        pacer.save()
        return found

    def body(self, connection: sa.Connection, parcel: Parcel) -> bytes:
        """Of a digest: all that was folded into it; of a test, which tells of no alert, that it is one."""
        if parcel.channel not in PERSONAL:
            return self.usual.body(connection, parcel)
        to = recipients.find(connection, parcel.organisation, person(parcel.target))
        told = _alerts(connection, parcel.alerts)
        write = self._bodies if parcel.alerts else self._tests
        return write[parcel.channel](parcel.id, to, told, parcel.created_at) if to else b""

    def _by_rules(
        self, alert: Alert, decided: Sequence[Rule], usual: Sequence[NewDelivery], book: Book, pacer: Pacer
    ) -> list[NewDelivery]:
        hooks = {to.target for rule in decided for to in rule.to if to.channel == "webhook"}
        shown = any(rule.in_app for rule in decided)
        found = {one.id: one for one in usual if _kept(one, hooks, shown=shown)}
        seen: set[tuple[str, str]] = set()
        for rule in decided:
            for to in rule.to:
                if (to.channel, to.target) in seen:  # an earlier rule has said how
                    continue
                seen.add((to.channel, to.target))
                found |= {one.id: one for one in self._to(alert, rule, to, book, pacer)}
        return list(found.values()) or [one for one in usual if one.channel == IN_APP]  # or it would be lost

    def _to(self, alert: Alert, rule: Rule, to: To, book: Book, pacer: Pacer) -> list[NewDelivery]:
        if to.channel == "crm":
            crm = book.crms.get(to.target)
            body = crm.request(alert, self.writer.advice, self.writer.links) if crm and crm.enabled else None
            return [_single(alert, CRM, to.target, body)] if body else []
        whom = book.people.get(to.target)
        if to.channel == "webhook" or whom is None:
            return []
        if to.channel in whom.unsubscribed:
            return []
        return [one for target in whom.targets(to.channel) for one in self._tell(alert, rule, to, whom, target, pacer)]

    def _tell(self, alert: Alert, rule: Rule, to: To, whom: Recipient, target: str, pacer: Pacer) -> list[NewDelivery]:
        breaks = rule.through_quiet and alert.priority == "CRITICAL"
        at = pacer.place(whom, to.channel, target, to.digest or whom.digest, breaks_quiet=breaks)
        if at.digest:
            return _folded(alert, to.channel, target, at)
        id_ = delivery_id(alert.id, to.channel, target)
        body = self._bodies[to.channel](id_, whom, [alert], pacer.now)
        one = _single(alert, to.channel, target, body)
        return [msgspec.structs.replace(one, through_quiet=breaks, day=at.day)]


def _kept(one: NewDelivery, hooks: set[str], *, shown: bool) -> bool:
    """Of what would go as usual: which the rules want too."""
    return shown if one.channel == IN_APP else one.channel == webhooks.NAME and bool({one.target, EVERY} & hooks)


def _single(alert: Alert, channel: str, target: str, body: bytes) -> NewDelivery:
    return NewDelivery(
        organisation=alert.organisation, channel=channel, target=target, of=alert.id, alert=alert.id, body=body
    )


def _folded(alert: Alert, channel: str, target: str, at: Place) -> list[NewDelivery]:
    """The digest of that moment, which may be there already, and the alert in it."""
    digest = NewDelivery(
        organisation=alert.organisation,
        channel=channel,
        target=target,
        of=digest_of(at.due),
        body=None,
        due_at=at.due,
        day=at.day,
    )
    return [digest, msgspec.structs.replace(digest, of=alert.id, alert=alert.id, due_at=0, into=digest.id)]


def _by_alert(planned: Sequence[NewDelivery]) -> dict[str, list[NewDelivery]]:
    found: dict[str, list[NewDelivery]] = {}
    for one in planned:
        found.setdefault(one.alert, []).append(one)
    return found


def _book(connection: sa.Connection, organisations: set[str]) -> Book:
    """People and CRMs only of those who have rules: most have none."""
    theirs = rules.of(connection, organisations)
    ruled = [organisation for organisation, some in theirs.items() if some]
    people = recipients.of(connection, ruled) if ruled else {}
    crms = crm_targets.of(connection, ruled) if ruled else {}
    return Book(theirs, _by_id(people), _by_id(crms))


def _by_id(found: Mapping[str, Sequence[T]]) -> dict[str, T]:
    return {one.id: one for some in found.values() for one in some}


def _alerts(connection: sa.Connection, ids: Sequence[str]) -> list[Alert]:
    found: list[Alert] = []
    for start in range(0, len(ids), MANY):
        query = sa.select(alerts).where(alerts.c.id.in_(ids[start : start + MANY]))
        found += [stored(row).alert for row in connection.execute(query).mappings()]
    return found
