"""The transactional outbox: what is planned, taken and done, each turn of the sending process in one transaction.

The table of alerts is the outbox's head: a turn plans the alerts that came since the last, and moves the cursor with
them. So an alert is planned exactly once, and what is planned is there until it is done or dead, whatever is killed.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from flows import alert_status, database
from flows import delivery_rows as rows
from flows.alert import Alert
from flows.alert_store import Stored, alerts, stored
from flows.channel import Channels, Gone, NewDelivery, Parcel, Plan, Retry, Sent
from flows.delivery_sender import Sender
from flows.delivery_tables import FAILED, Tally, attempts, count, nudges
from flows.ended import Ended, fit
from flows.lanes import Draft, Key
from flows.putting_off import put_off

log = logging.getLogger("telltale.delivery")

ROUTE, ROWS = 256, 2_000  # alerts planned a turn, at most; deliveries that they shall make, about: others write too
PLAN = "plan"  # stands for a channel where an alert could not be planned
LOST = "the alert is no more"


Told = tuple[str, str]  # channel, alert


class Taken(msgspec.Struct, frozen=True):
    """To be sent now; `to` is what its channel needs to know of the target."""

    parcel: Parcel
    to: Any
    tries: int


class Turn(msgspec.Struct, frozen=True):
    """What one brought: what is to be sent now, whether more alerts wait to be planned, whether a status moved."""

    taken: list[Taken]
    more: bool
    moved: bool


class Outbox:
    """What the sending process does to the tables. `SupersededError`: another process sends now.

    `unsure`: nobody knows whether the last turn counts, since its commit was not answered.
    """

    def __init__(self, engine: sa.Engine, plan: Plan, channels: Channels, sender: Sender) -> None:
        self.engine, self.plan, self.channels, self.sender = engine, plan, channels, sender
        self._route_most, self.unsure = ROUTE // 16, False

    def begin(self, now: int) -> dict[Key, int]:
        """Takes over: what was under way waits again. Returns when each lane has something due."""
        with self.engine.begin() as connection:
            database.one_by_one(connection)
            self.sender.take(connection, now)
            rows.release(connection, now)
            rows.hasten(connection, now)
            return rows.dues(connection)

    def resume(self, draft: Draft, ended: Sequence[Ended], log_ms: int) -> dict[Key, int]:
        """After a turn that may count or not, while no attempt is under way: as `begin`, and records what ended."""
        with self.engine.begin() as connection:
            self._wind_up(connection, draft, ended, log_ms)
            self.sender.look(connection)
            found = rows.dues(connection)
        self.unsure = False
        return found

    def news(self) -> bool:
        """Whether there is an alert to plan, or a nudge."""
        with self.engine.connect() as connection:
            head = connection.execute(sa.select(sa.func.max(alerts.c.seq))).scalar() or 0
            return head > self.sender.routed or connection.execute(sa.select(nudges.c.seq).limit(1)).first() is not None

    def turn(self, draft: Draft, ended: Sequence[Ended], log_ms: int) -> Turn:
        """`log_ms`: the time that alerts' statuses go by. Raises SupersededError, SQLAlchemy's OperationalError."""
        tally = Tally()
        with self.engine.begin() as connection:
            database.one_by_one(connection)
            routed = self.sender.routed
            self.sender.hold(connection, draft.now)
            delivered = self._record(connection, draft, ended, tally)
            self._hear(connection, draft)
            again, shown_late = self._plan_again(connection, draft, tally)
            fresh, shown, routed = self._route(connection, draft, routed, tally)
            moved = self._told(connection, [*delivered, *shown_late, *shown], log_ms)
            taken = self._address(connection, [*again, *fresh, *self._take(connection, draft, tally)], draft, tally)
            self.sender.move(connection, routed)
            count(connection, tally)
            self.unsure = True
        self.unsure = False
        more, self.sender.routed = routed > self.sender.routed, routed
        draft.commit()
        return Turn(taken, more, moved)

    def close(self, draft: Draft, ended: Sequence[Ended], log_ms: int) -> None:
        """The last turn: records what ended, takes nothing, and lets go of the lease."""
        with self.engine.begin() as connection:
            self._wind_up(connection, draft, ended, log_ms)
            self.sender.let_go(connection)

    def _wind_up(self, connection: sa.Connection, draft: Draft, ended: Sequence[Ended], log_ms: int) -> None:
        """Records what ended and is not recorded yet; what is under way then waits again."""
        tally = Tally()
        database.one_by_one(connection)
        self.sender.hold(connection, draft.now)
        open_ = rows.under_way(connection, [one.parcel.id for one in ended])
        new = [one for one in ended if one.parcel.id in open_]
        self._told(connection, self._record(connection, draft, new, tally), log_ms)
        count(connection, tally)
        rows.release(connection, draft.now)

    def _record(self, connection: sa.Connection, draft: Draft, ended: Sequence[Ended], tally: Tally) -> list[Told]:
        """What came of the attempts that ended; returns what was delivered."""
        if not ended:
            return []
        ended = [self._after_gone(connection, draft, one) for one in ended]
        connection.execute(attempts.insert(), [one.attempt for one in ended])
        rows.ended(connection, [one.change(draft.now) for one in ended])
        for one in ended:
            whose = one.parcel.organisation, one.parcel.channel
            tally[*whose, "ACTIVE"] -= 1
            tally[*whose, one.state] += 1
            tally[*whose, FAILED] += not isinstance(one.result, Sent)
            if one.again_at is not None:
                draft.waits(one.key, one.again_at)
            if isinstance(one.result, Gone):
                rows.bury(connection, one.key, one.said, draft.now, tally)
        return [(one.parcel.channel, id_) for one in ended if isinstance(one.result, Sent) for id_ in one.parcel.alerts]

    def _after_gone(self, connection: sa.Connection, draft: Draft, one: Ended) -> Ended:
        """Disables the target; where only an address is gone that it has no more, it is tried again."""
        if not isinstance(one.result, Gone):
            return one
        gone = msgspec.structs.replace(one.result, why=one.said)
        if self.channels[one.parcel.channel].disable(connection, one.parcel.target, gone, draft.now):
            return one
        return msgspec.structs.replace(one, result=Retry(gone.why), again_at=draft.now)

    def _told(self, connection: sa.Connection, told: Sequence[Told], at: int) -> bool:
        """Alerts are delivered; whether that is news of any."""
        news = False
        for channel in dict.fromkeys(channel for channel, _ in told):
            ids = list(dict.fromkeys(id_ for by, id_ in told if by == channel))
            moved = alert_status.move(connection, ids, "DELIVERED", who=channel, at=at)
            news = news or any(one.new for one in moved)
        return news

    def _hear(self, connection: sa.Connection, draft: Draft) -> None:
        heard = connection.execute(sa.select(nudges)).all()
        if heard:
            connection.execute(nudges.delete().where(nudges.c.seq <= max(row.seq for row in heard)))
        for row in heard:
            draft.nudge((row.channel, row.target))

    def _route(
        self, connection: sa.Connection, draft: Draft, routed: int, tally: Tally
    ) -> tuple[list[rows.Due], list[Told], int]:
        """Plans what was stored since: what of it is taken at once, what is delivered by it, and the number reached."""
        query = sa.select(alerts).where(alerts.c.seq > routed).order_by(alerts.c.seq).limit(self._route_most)
        found = [stored(row) for row in connection.execute(query).mappings()]
        if not found:
            return [], [], routed
        told = [one for one in found if not one.alert.withheld]
        planned, due = self._planned(connection, told, draft, tally)
        self._route_most = max(1, min(ROUTE, self._route_most * 2, self._route_most * ROWS // max(len(planned), 1)))
        return due, _shown(planned), found[-1].seq

    def _plan_again(self, connection: sa.Connection, draft: Draft, tally: Tally) -> tuple[list[rows.Due], list[Told]]:
        """Alerts that could not be planned, and that somebody wants tried again: as `_route`."""
        lane = PLAN, ""
        if lane not in draft.ready():
            return [], []
        due = rows.take(connection, lane, draft.room(lane), draft, tally)
        wanted = sa.select(alerts).where(alerts.c.id.in_([one.alert for one in due]))
        found = [stored(row) for row in connection.execute(wanted).mappings()]
        planned, fresh = self._each(connection, found, draft, tally)
        why = {one.id: LOST for one in due if one.alert not in {one.alert.id for one in found}}
        why |= {one.id: one.dead for one in planned if one.channel == PLAN}
        rows.lose(connection, [one for one in due if one.id in why], why, draft, tally)
        rows.settle(connection, [one for one in due if one.id not in why], draft, tally)
        return fresh, _shown(planned)

    def _planned(
        self, connection: sa.Connection, told: Sequence[Stored], draft: Draft, tally: Tally
    ) -> tuple[list[NewDelivery], list[rows.Due]]:
        """Written down, and what of it was taken. One that cannot be planned is dead, and holds up no other."""
        if not told:
            return [], []
        try:
            with connection.begin_nested():
                planned = self.plan.deliveries(connection, told, draft.now)
        except sa.exc.OperationalError:
            raise
        except Exception as error:
            if len(told) > 1:
                return self._each(connection, told, draft, tally)
            log.exception("alert %s cannot be planned", told[0].alert.id)
            planned = [_unplanned(told[0].alert, error)]
        return planned, rows.add(connection, planned, draft, self._life, tally)

    def _each(
        self, connection: sa.Connection, told: Sequence[Stored], draft: Draft, tally: Tally
    ) -> tuple[list[NewDelivery], list[rows.Due]]:
        """Each for itself, written before the next is planned, which may be told in the same digest."""
        parts = [self._planned(connection, [one], draft, tally) for one in told]
        return [new for planned, _ in parts for new in planned], [one for _, due in parts for one in due]

    def _life(self, channel: str) -> int:
        """For how many ms a delivery is tried, its waits drawn out by chance and by what others ask for."""
        return int(sum(self.channels[channel].schedule) * 1100) if channel in self.channels else 0

    def _take(self, connection: sa.Connection, draft: Draft, tally: Tally) -> list[rows.Due]:
        found: list[rows.Due] = []
        for key in draft.ready():
            room = draft.room(key)
            if room and key[0] != PLAN:
                put_off(connection, key, draft.now)
                found += rows.take(connection, key, room, draft, tally)
        return found

    def _address(self, connection: sa.Connection, due: Sequence[rows.Due], draft: Draft, tally: Tally) -> list[Taken]:
        """With what is known of each target; those whose target is no more are dead."""
        known = {
            name: self.channels[name].targets(connection, sorted({one.target for one in due if one.channel == name}))
            for name in {one.channel for one in due} & self.channels.keys()
        }
        lost = {one.id: rows.LOST for one in due if one.target not in known.get(one.channel, {})}
        taken = []
        for one in due:
            if one.id in lost:
                continue
            try:
                taken.append(Taken(self._parcel(connection, one), known[one.channel][one.target], one.tries))
            except sa.exc.OperationalError:
                raise
            except Exception as error:  # of a digest that cannot be made
                log.exception("delivery %s has no body", one.id)
                lost[one.id] = fit(f"it could not be made: {type(error).__name__}: {error}")
        rows.lose(connection, [one for one in due if one.id in lost], lost, draft, tally)
        return taken

    def _parcel(self, connection: sa.Connection, due: rows.Due) -> Parcel:
        whole = due.parcel(rows.folded(connection, due.id) if due.alert is None else (due.alert,))
        if due.body is not None:
            return whole
        body = self.plan.body(connection, whole)
        rows.freeze(connection, due.id, body)
        return msgspec.structs.replace(whole, body=body)


def _shown(planned: Sequence[NewDelivery]) -> list[Told]:
    """What is delivered by being planned."""
    return [(one.channel, one.alert) for one in planned if one.done and one.alert]


def _unplanned(alert: Alert, error: Exception) -> NewDelivery:
    why = f"it could not be planned: {type(error).__name__}: {error}"
    return NewDelivery(
        organisation=alert.organisation, channel=PLAN, target="", of=alert.id, alert=alert.id, body=None, dead=fit(why)
    )
