"""The outbox with its rules, on a clock of the test's own; what channels would send is written down."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from flows.alert import Alert
from flows.alert_store import AlertStore
from flows.channel import Channel, Gone, Parcel, Result, Retry, Sent
from flows.delivery import Delivery
from flows.delivery_sender import Sender
from flows.delivery_tables import deliveries
from flows.everywhere import Everywhere
from flows.links import Links
from flows.mail import Writer
from flows.outbox import Outbox
from flows.recipients import Personal, Recipient, reachable, recipients
from flows.routing import Routing
from flows.routing_rules import Route, Rule, To, rules
from tests.flows.made_alerts import alert

CRASH = -1
DAY_MS = 86_400_000
NOON = 1_772_712_000_000  # 2026-03-05 12:00 UTC
WRITER = Writer(
    links=Links(b"k" * 32, "https://alerts.example.org", "replies@example.org"),
    advice={},
    sender="Telltale <telltale@example.org>",
)


class Noted(msgspec.Struct, frozen=True):
    """One message that went out, and when."""

    at: int
    parcel: Parcel


class Notebook:
    """A channel that writes down what it would send, and what it would have tried; `fails`: how likely, but at last."""

    schedule: tuple[float, ...] = (60.0, 4 * 3600.0)
    timeout_s = 5.0
    at_once = 1
    most = 300

    def __init__(self, name: Personal, clock: Callable[[], int]) -> None:
        self.name: str = name
        self.sent: list[Noted] = []
        self.tried: list[Noted] = []
        self.fails, self._chance = 0.0, random.Random(2)
        self._channel, self._clock = name, clock

    def targets(self, connection: sa.Connection, ids: Sequence[str]) -> Mapping[str, str]:
        return reachable(connection, self._channel, ids)

    async def send(self, parcel: Parcel, to: str) -> Result:
        self.tried.append(Noted(self._clock(), parcel))
        if parcel.attempt <= len(self.schedule) and self._chance.random() < self.fails:
            return Retry("not now")
        self.sent.append(self.tried[-1])
        return Sent()

    def disable(self, connection: sa.Connection, target: str, gone: Gone, at: int) -> bool:
        raise AssertionError(f"{target}: {gone.why}")


class Office:
    """`now` moves by `pass_time` alone, ms since 1970."""

    def __init__(self, home: Path, channels: Sequence[Channel[Any]] = (), writer: Writer = WRITER) -> None:
        self.now, self.stored = NOON, 0
        self.store = AlertStore(f"sqlite:///{home / 'office.db'}")
        self.store.create()
        self.notes = {name: Notebook(name, lambda: self.now) for name in ("email", "sms", "chat")}
        known = self.notes | {channel.name: channel for channel in channels}
        self._channels, self._writer = known, writer
        self.delivery = self._life()

    def _life(self) -> Delivery:
        outbox = Outbox(self.store.engine, Routing(Everywhere(), self._writer), self._channels, Sender("test"))
        clock = lambda: self.now  # noqa: E731
        return Delivery(outbox, clock=clock, log_clock=clock, chance=random.Random(1))

    async def crash(self) -> None:
        """What was sent was not written down, and the next life takes over."""
        if self.delivery.outbox.sender.generation:
            await self.delivery.turn()
            await self.delivery.settled()
        self.delivery = self._life()

    def keep(self, *documents: Recipient | Rule) -> None:
        with self.store.engine.begin() as connection:
            for one in documents:
                if isinstance(one, Rule):
                    rules.add(connection, one)
                else:
                    recipients.add(connection, one)

    def arrive(self, **changes: object) -> Alert:
        """One alert more is stored."""
        self.stored += 1
        one = alert(self.stored, stored_at=self.now, **changes)
        self.store.insert([one])
        return one

    async def settle(self) -> None:
        """All that is due now is sent and written down."""
        if not self.delivery.outbox.sender.generation:
            await self.delivery.begin()
        for _ in range(3):
            await self.delivery.turn()
            await self.delivery.settled()
        await self.delivery.turn()

    async def pass_time(self, ms: int) -> None:
        """Stops wherever something is due."""
        await self.settle()
        end = self.now + ms
        while self.now < end:
            at = self.delivery.lanes.wakes()
            self.now = end if at is None else min(max(at, self.now + 1), end)
            await self.settle()

    def run(self, *steps: Callable[[], Any] | int) -> None:
        """Steps are things that happen, ms that pass, or CRASH."""

        async def walk() -> None:
            for step in steps:
                if step == CRASH:
                    await self.crash()
                elif isinstance(step, int):
                    await self.pass_time(step)
                else:
                    step()
                await self.settle()
            await self.delivery.stop(0)
            self.delivery = self._life()

        asyncio.run(walk())

    def rows(self, *columns: str) -> list[tuple[Any, ...]]:
        """Of all deliveries, in the order in which they were planned."""
        with self.store.engine.connect() as connection:
            found = connection.execute(sa.select(*(deliveries.c[name] for name in columns)).order_by(deliveries.c.seq))
            return [tuple(row) for row in found]

    def close(self) -> None:
        self.store.close()


def whom(name: str = "ann", **changes: Any) -> Recipient:
    plain = Recipient(id=f"rc_{name}", organisation="acme", name=name, email=f"{name}@x.org")
    return msgspec.structs.replace(plain, **changes)


def rule(*to: tuple[Route, str], **changes: Any) -> Rule:
    targets = tuple(To(channel=channel, target=target) for channel, target in to)
    plain = Rule(id="rr_1", organisation="acme", name="all", position=1, to=targets)
    return msgspec.structs.replace(plain, **changes)
