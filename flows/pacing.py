"""When a person is told: at once, or in a digest; never in quiet hours, and not more often a day than they want.

What does not fit is folded into a digest of a later day, so nothing is dropped. Instants are ms since 1970.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Literal

import msgspec
import sqlalchemy as sa

from flows import database
from flows.channel import delivery_id
from flows.database import metadata
from flows.delivery_tables import deliveries
from flows.local_time import day_of, next_at, next_hour, quiet_until
from flows.recipients import Pace, Recipient

KEPT_DAYS = 7  # how long it is remembered what a day brought
Digest = Literal["none", "open", "shut"]  # there is none yet; it takes more; it is made or over

days = sa.Table(
    "recipient_days",
    metadata,
    sa.Column("recipient", sa.String(64), primary_key=True),
    sa.Column("day", sa.Integer, primary_key=True),  # the date there, as days since the year 1
    sa.Column("messages", sa.Integer, nullable=False),
)


class Place(msgspec.Struct, frozen=True):
    """When, and whether as a message of its own or in the digest of that moment."""

    due: int
    digest: bool
    day: int  # of theirs


def place(
    person: Recipient,
    pace: Pace,
    now: int,
    *,
    breaks_quiet: bool,
    room: Callable[[int], bool],
    digest: Callable[[int], Digest],
) -> Place:
    """The first moment that suits. `room`: whether a day takes one message more; `digest`: what is known of one."""
    for found in _moments(person, pace, now, breaks_quiet=breaks_quiet):
        known = digest(found.due) if found.digest else "none"
        if known == "open" or (known == "none" and room(found.day)):
            return found
    raise AssertionError("days have no end")


def _moments(person: Recipient, pace: Pace, now: int, *, breaks_quiet: bool) -> Iterator[Place]:
    for due in _dues(person, pace, now, breaks_quiet=breaks_quiet):
        yield Place(due, digest=due != now, day=day_of(due, person.zone))


def _dues(person: Recipient, pace: Pace, now: int, *, breaks_quiet: bool) -> Iterator[int]:
    if pace == "at_once":
        yield now if breaks_quiet else _awake(person, now)
    elif pace == "hourly":
        yield _awake(person, next_hour(now, person.zone))
    else:
        yield _awake(person, next_at(now, person.digest_at, person.zone))
    for later in count(1):
        yield _awake(person, next_at(now, person.digest_at, person.zone, later))


def _awake(person: Recipient, at: int) -> int:
    """Then, or when the quiet hours end."""
    while person.quiet and (end := quiet_until(at, person.quiet, person.zone)):
        at = end
    return at


def digest_of(due: int) -> str:
    """What a digest's id is made of, beside channel and target."""
    return f"digest {due}"


class Pacer:
    """Places messages in one transaction, and writes down what days they take: `save` at its end."""

    def __init__(self, connection: sa.Connection, now: int) -> None:
        self._connection, self.now = connection, now
        self._used: dict[tuple[str, int], int] = {}
        self._changed: set[tuple[str, int]] = set()
        self._digests: dict[str, Digest] = {}

    def place(self, person: Recipient, channel: str, target: str, pace: Pace, *, breaks_quiet: bool) -> Place:
        """Where one alert goes for one of a person's addresses; takes a message of the day where it makes one."""

        def known(due: int) -> Digest:
            return self._digest(delivery_id(digest_of(due), channel, target))

        def room(day: int) -> bool:
            return self._room(person, day)

        found = place(person, pace, self.now, breaks_quiet=breaks_quiet, room=room, digest=known)
        if not found.digest or known(found.due) == "none":
            self._take(person, found.day)
        if found.digest:
            self._digests[delivery_id(digest_of(found.due), channel, target)] = "open"
        return found

    def again(self, person: Recipient, day: int | None, *, breaks_quiet: bool) -> Place:
        """When one goes that was placed before, counted by `day`: now, or at the next moment that suits."""
        for found in _moments(person, "at_once", self.now, breaks_quiet=breaks_quiet):
            if day in (None, found.day):
                return found
            if self._room(person, found.day):
                self._take(person, found.day)
                return found
        raise AssertionError("days have no end")

    def save(self) -> None:
        rows = [{"recipient": who, "day": day, "messages": self._used[who, day]} for who, day in self._changed]
        if not rows:
            return
        insert = database.insert(self._connection, days)
        told = {"messages": insert.excluded.messages}
        self._connection.execute(insert.on_conflict_do_update(index_elements=["recipient", "day"], set_=told), rows)
        oldest = day_of(self.now, Recipient(id="", organisation="", name="").zone) - KEPT_DAYS
        touched = {who for who, _ in self._changed}
        self._connection.execute(days.delete().where(days.c.recipient.in_(touched), days.c.day < oldest))

    def _room(self, person: Recipient, day: int) -> bool:
        return person.daily_cap is None or self._messages(person.id, day) < person.daily_cap

    def _messages(self, who: str, day: int) -> int:
        if (who, day) not in self._used:
            query = sa.select(days.c.messages).where(days.c.recipient == who, days.c.day == day)
            self._used[who, day] = self._connection.execute(query).scalar() or 0
        return self._used[who, day]

    def _take(self, person: Recipient, day: int) -> None:
        self._used[person.id, day] = self._messages(person.id, day) + 1
        self._changed.add((person.id, day))

    def _digest(self, id_: str) -> Digest:
        if id_ not in self._digests:
            query = sa.select(deliveries.c.state, deliveries.c.body_id).where(deliveries.c.id == id_)
            row = self._connection.execute(query).first()
            waits = row is not None and row.state == "WAITING" and row.body_id is None
            self._digests[id_] = "none" if row is None else "open" if waits else "shut"
        return self._digests[id_]
