"""Webhooks by Standard Webhooks 1.0 (https://www.standardwebhooks.com): the endpoints, and what they are sent."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
import sqlalchemy as sa

from flows import database
from flows.alert import Alert, Scored
from flows.alert_table import alerts

NAME = "webhook"
OPENED, TEST = "alert.opened", "webhook.test"  # types of events
SECRET_BYTES, LEAST_SECRET, MOST_SECRET = 32, 24, 64
PREFIX = "whsec_"
KEPT = ("id", "organisation", "created_at", "after_seq")  # as they were when it was made
BOTH_MS = 24 * 3_600_000  # for which a rotated secret still signs beside the new one

webhooks = sa.Table(
    "webhooks",
    database.metadata,
    database.number(),
    sa.Column("id", sa.String(64), nullable=False, unique=True),
    sa.Column("organisation", sa.Text, nullable=False),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("events", sa.Text, nullable=False),  # JSON; empty: all
    sa.Column("secret", sa.String(128), nullable=False),
    sa.Column("old_secret", sa.String(128)),
    sa.Column("old_until", sa.BigInteger, nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("disabled_why", sa.Text),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("updated_at", sa.BigInteger, nullable=False),
    sa.Column("after_seq", sa.BigInteger, nullable=False, server_default="0"),  # of alerts: it is told of later ones
    sa.Index("webhooks_by_organisation", "organisation", "seq"),
    sqlite_autoincrement=True,
)


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint. Times are ms since 1970. `events`: types, or their beginnings up to a full stop; empty: all.

    `after_seq`: it is told of alerts with a higher `seq`: by time it would miss some where a clock is set back.
    """

    id: str
    organisation: str
    url: str
    description: str
    events: tuple[str, ...]
    secret: str
    old_secret: str | None = None
    old_until: int = 0
    enabled: bool = True
    disabled_why: str | None = None
    created_at: int
    updated_at: int
    after_seq: int = 0

    def wants(self, event: str) -> bool:
        return not self.events or any(event == one or event.startswith(f"{one}.") for one in self.events)

    def secrets(self, now_ms: int) -> tuple[str, ...]:
        """Those that sign, the one that counts first."""
        return (self.secret, self.old_secret) if self.old_secret and now_ms < self.old_until else (self.secret,)


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook's body. `type`: `alert.opened.` and the alert's type in lower case; `timestamp`: when it was scored.

    `data`: the members of `/v1/alerts/{id}` that never change.
    """

    type: str
    timestamp: datetime
    data: Scored


def new_secret() -> str:
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def event_of(alert_type: str) -> str:
    return f"{OPENED}.{alert_type.lower()}"


def body_of(alert: Alert) -> bytes:
    """What endpoints are sent of an alert."""
    told = Scored(**{name: getattr(alert, name) for name in Scored.__struct_fields__})
    scored = datetime.fromtimestamp(alert.scored_at / 1000, UTC)
    return msgspec.json.encode(Event(type=event_of(alert.type), timestamp=scored, data=told))


def signatures(id_: str, timestamp: int, body: bytes, keys: Sequence[str]) -> str:
    """The header `webhook-signature`: one of each secret, over `id.timestamp.body`. `timestamp`: seconds since 1970."""
    signed = f"{id_}.{timestamp}.".encode() + body
    made = (hmac.new(base64.b64decode(key.removeprefix(PREFIX)), signed, hashlib.sha256).digest() for key in keys)
    return " ".join(f"v1,{base64.b64encode(one).decode()}" for one in made)


def read(row: sa.RowMapping) -> Webhook:
    """A row of the table."""
    values = {name: row[name] for name in Webhook.__struct_fields__}
    return msgspec.convert(values | {"events": msgspec.json.decode(values["events"])}, Webhook)


def enabled(connection: sa.Connection, organisations: Sequence[str]) -> list[Webhook]:
    """The endpoints that are sent to."""
    query = sa.select(webhooks).where(webhooks.c.enabled, webhooks.c.organisation.in_(organisations))
    return [read(row) for row in connection.execute(query.order_by(webhooks.c.seq)).mappings()]


def of_ids(connection: sa.Connection, ids: Sequence[str]) -> dict[str, Webhook]:
    """Those of the endpoints that are sent to, by id."""
    query = sa.select(webhooks).where(webhooks.c.enabled, webhooks.c.id.in_(ids))
    return {row["id"]: read(row) for row in connection.execute(query).mappings()}


def test_body(webhook: Webhook, at_ms: int) -> bytes:
    """What a test sends."""
    moment = datetime.fromtimestamp(at_ms / 1000, UTC)
    data = {"webhook": webhook.id, "message": "This is a test. No alert stands behind it."}
    return msgspec.json.encode({"type": TEST, "timestamp": moment, "data": data})


def disable(connection: sa.Connection, id_: str, url: str, why: str, at: int) -> bool:
    """Where that is its URL still; whether it is."""
    off = {"enabled": False, "disabled_why": why[:500], "updated_at": at}
    mine = webhooks.c.id == id_, webhooks.c.url == url
    return connection.execute(webhooks.update().where(*mine).values(off)).rowcount > 0


def of_organisation(connection: sa.Connection, organisation: str) -> list[Webhook]:
    """All of them, the first made first."""
    query = sa.select(webhooks).where(webhooks.c.organisation == organisation).order_by(webhooks.c.seq)
    return [read(row) for row in connection.execute(query).mappings()]


def find(connection: sa.Connection, organisation: str, id_: str) -> Webhook | None:
    query = sa.select(webhooks).where(webhooks.c.organisation == organisation, webhooks.c.id == id_)
    row = connection.execute(query).mappings().first()
    return read(row) if row else None


def add(connection: sa.Connection, webhook: Webhook) -> None:
    """A new one, which is told of alerts that are stored from now on."""
    head = connection.execute(sa.select(sa.func.max(alerts.c.seq))).scalar() or 0
    save(connection, msgspec.structs.replace(webhook, after_seq=head))


def save(connection: sa.Connection, webhook: Webhook) -> None:
    """Adds it, or puts it in the place of the one of its id."""
    row = msgspec.structs.asdict(webhook) | {"events": msgspec.json.encode(webhook.events).decode()}
    insert = database.insert(connection, webhooks)
    changed = {name: insert.excluded[name] for name in row if name not in KEPT}
    connection.execute(insert.on_conflict_do_update(index_elements=["id"], set_=changed), row)


def remove(connection: sa.Connection, id_: str) -> None:
    connection.execute(webhooks.delete().where(webhooks.c.id == id_))


def rotated(webhook: Webhook, now_ms: int) -> Webhook:
    """With a new secret; the one that it had signs too for a day."""
    until = now_ms + BOTH_MS
    return msgspec.structs.replace(
        webhook, secret=new_secret(), old_secret=webhook.secret, old_until=until, updated_at=now_ms
    )
