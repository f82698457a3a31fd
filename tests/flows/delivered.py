"""A delivery to test with: real SQLite, real sockets, and a clock that stands until it is moved."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from feature_repo.networks import networks
from feature_repo.settings import Settings
from flows import alert_status, delivery_figures, delivery_list, webhooks
from flows.alert import Alert
from flows.alert_store import AlertStore, open_alerts
from flows.channel import Channel, Channels, Plan
from flows.database import metadata
from flows.delivery import Delivery
from flows.delivery_figures import Figures
from flows.delivery_list import Attempt, Listed, Which
from flows.delivery_sender import Sender, SupersededError
from flows.everywhere import Everywhere
from flows.outbox import Outbox
from flows.web import Web
from flows.webhook_channel import WebhookChannel
from flows.webhooks import Webhook
from tests.flows.made_alerts import alert

POSTGRESQL = os.environ.get("TEST_POSTGRESQL", "")  # postgresql+psycopg://... of a database that may be emptied
START = 1_767_225_600_000  # ms since 1970
INSIDE = networks("127.0.0.0/8")


class Clock:
    def __init__(self) -> None:
        self.ms = START

    def __call__(self) -> int:
        return self.ms


class Delivered(msgspec.Struct):
    """What tests look at."""

    store: AlertStore
    delivery: Delivery
    clock: Clock

    def alerts(self, *numbers: int, **changes: object) -> list[Alert]:
        """Stored now."""
        made = [alert(n, **({"stored_at": self.clock.ms} | changes)) for n in numbers]
        self.store.insert(made)
        return made

    async def turn(self) -> None:
        """Takes what is due, and has it sent; what comes of it is recorded by the next."""
        await self.delivery.turn()
        await self.delivery.settled()

    async def until_quiet(self) -> None:
        """Turns until nothing is to be done now."""
        await self.turn()
        while self.delivery.wakes() <= self.clock.ms:
            await self.turn()

    async def to_the_end(self, most: int = 100) -> list[int]:
        """Moves the clock from wait to wait until nothing waits; the moments at which something was due."""
        moments: list[int] = []
        await self.until_quiet()
        while (due := self.delivery.lanes.wakes()) is not None and len(moments) < most:
            self.clock.ms = due
            moments.append(due)
            await self.until_quiet()
        return moments

    def listed(self, **which: str) -> list[Listed]:
        """Latest planned first."""
        with self.store.engine.connect() as sql:
            return delivery_list.listed(sql, Which(**which), 10_000)  # type: ignore[arg-type]  # a state is a word

    def webhooks_listed(self) -> list[Listed]:
        """In the order in which they were planned."""
        return self.listed(channel=webhooks.NAME)[::-1]

    def tried(self, **which: str) -> list[Attempt]:
        """First to last."""
        with self.store.engine.connect() as sql:
            return delivery_list.tried(sql, Which(**which), 10_000)[::-1]  # type: ignore[arg-type]

    def figures(self) -> Figures:
        with self.store.engine.connect() as sql:
            return delivery_figures.figures(sql)

    def counted(self) -> Figures:
        """The same, from the rows."""
        with self.store.engine.connect() as sql:
            rows = sql.execute(sa.text("SELECT lower(state), count(*) FROM deliveries GROUP BY 1")).all()
            failed = sql.execute(sa.text("SELECT count(*) FROM delivery_attempts WHERE result <> 'SENT'")).scalar()
        return Figures(**dict(tuple(row) for row in rows), failed=failed or 0)

    def steps(self, alert_id: str) -> list[tuple[str, str]]:
        """(status, who) of an alert's history."""
        with self.store.engine.connect() as sql:
            return [(step.to_status, step.who) for step in alert_status.history(sql, alert_id)]

    def endpoint(self, url: str, n: int = 1, **changes: object) -> Webhook:
        return endpoint(self.store.engine, url, n, **changes)


def endpoint(engine: sa.Engine, url: str, n: int = 1, **changes: object) -> Webhook:
    plain = Webhook(
        id=f"wh_{n}",
        organisation="acme",
        url=url,
        description="",
        events=(),
        secret=webhooks.new_secret(),
        created_at=0,
        updated_at=0,
    )
    made = msgspec.structs.replace(plain, **changes)
    with engine.begin() as sql:
        webhooks.save(sql, made)
    return made


@contextmanager
def stored(home: Path) -> Iterator[AlertStore]:
    """The database of that home: SQLite, or what TEST_POSTGRESQL names, emptied when the home is new."""
    store = open_alerts(Settings(home=home, database_url=POSTGRESQL))
    if POSTGRESQL and not (home / "emptied").exists():
        (home / "emptied").touch()
        metadata.drop_all(store.engine)
        store.create()
    try:
        yield store
    finally:
        store.close()


@contextlib.asynccontextmanager
async def delivered(
    home: Path, channels: Sequence[Channel[Any]] = (), plan: Plan | None = None, seed: int = 1
) -> AsyncIterator[Delivered]:
    """With webhooks, unless other channels are given."""
    clock, web = Clock(), Web(INSIDE)
    named: Channels = {one.name: one for one in channels or (WebhookChannel(web, clock),)}
    with stored(home) as store:
        outbox = Outbox(store.engine, plan or Everywhere(), named, Sender("test"))
        delivery = Delivery(outbox, clock=clock, log_clock=clock, chance=random.Random(seed))
        try:
            await delivery.begin()
            yield Delivered(store, delivery, clock)
        finally:
            await web.close()
            with contextlib.suppress(SupersededError):
                await delivery.stop(0)
