"""What became of messages: opened, followed, answered. Counted a delivery; what machines do is counted apart."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
import sqlalchemy as sa

from flows import database

Seen = Literal["open", "click", "reply"]
MOST_TEXT = 2_000  # characters of an answer that are kept
MOST_REPLIES = 50  # of a delivery that are kept

tracking = sa.Table(
    "delivery_tracking",
    database.metadata,
    sa.Column("delivery_id", sa.String(64), primary_key=True),
    sa.Column("opened_at", sa.BigInteger),
    sa.Column("opens", sa.Integer, nullable=False, server_default="0"),
    sa.Column("clicked_at", sa.BigInteger),
    sa.Column("clicks", sa.Integer, nullable=False, server_default="0"),
    sa.Column("replied_at", sa.BigInteger),
    sa.Column("replies", sa.Integer, nullable=False, server_default="0"),
    sa.Column("by_machines", sa.Integer, nullable=False, server_default="0"),
)
replies = sa.Table(
    "delivery_replies",
    database.metadata,
    database.number(),
    sa.Column("delivery_id", sa.String(64), nullable=False),
    sa.Column("message_id", sa.String(255), nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("sender", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("automatic", sa.Boolean, nullable=False),
    sa.UniqueConstraint("delivery_id", "message_id"),
    sqlite_autoincrement=True,
)
_FIELDS: dict[Seen, tuple[str, str]] = {
    "open": ("opened_at", "opens"),
    "click": ("clicked_at", "clicks"),
    "reply": ("replied_at", "replies"),
}
# Of those who fetch what nobody looks at. Google's and Yahoo's proxies fetch when somebody does.
_ROBOTS = re.compile(
    r"bot\b|crawl|spider|preview|scan|proofpoint|mimecast|barracuda|headless|curl|wget|python|go-http|java/",
    re.IGNORECASE,
)
_PROXIES = re.compile(r"GoogleImageProxy|YahooMailProxy")
_APPLE = "Mozilla/5.0"  # all that Apple's mail privacy says when it fetches beforehand
_AHEAD = ("purpose", "x-purpose", "sec-purpose", "x-moz")


class Tracked(msgspec.Struct, frozen=True, kw_only=True):
    """Of one delivery. Times are of the first, ms since 1970; counts are of people, `by_machines` of all else."""

    opened_at: int | None = None
    opens: int = 0
    clicked_at: int | None = None
    clicks: int = 0
    replied_at: int | None = None
    replies: int = 0
    by_machines: int = 0


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """An answer. `text`: without what it quotes; `automatic`: nobody wrote it."""

    message_id: str
    at: int
    sender: str
    text: str
    automatic: bool


def is_machine(method: str, headers: Mapping[str, str]) -> bool:
    """Whether a link was fetched, as far as it says so, by what is no person. `headers`: by lower-case name."""
    agent = headers.get("user-agent", "").strip()
    ahead = any(re.search("prefetch|preview", headers.get(name, ""), re.IGNORECASE) for name in _AHEAD)
    robot = agent in ("", _APPLE) or (_ROBOTS.search(agent) is not None and not _PROXIES.search(agent))
    return method == "HEAD" or ahead or robot


def see(connection: sa.Connection, delivery: str, what: Seen, at: int, *, machine: bool) -> None:
    """Counts it."""
    first, times = _FIELDS[what]
    t = tracking.c
    once = database.insert(connection, tracking).on_conflict_do_nothing(index_elements=["delivery_id"])
    connection.execute(once, {"delivery_id": delivery})
    told: dict[str, Any] = {"by_machines": t.by_machines + 1}
    if not machine:
        told = {first: sa.func.coalesce(t[first], at), times: t[times] + 1}
    connection.execute(tracking.update().where(t.delivery_id == delivery).values(told))


def answer(connection: sa.Connection, delivery: str, reply: Reply) -> bool:
    """Keeps an answer, once; whether it is new."""
    database.one_by_one(connection)
    known = sa.select(replies.c.message_id).where(replies.c.delivery_id == delivery)
    there = set(connection.execute(known).scalars())
    if reply.message_id in there:
        return False
    if len(there) < MOST_REPLIES:
        connection.execute(replies.insert(), msgspec.structs.asdict(reply) | {"delivery_id": delivery})
    see(connection, delivery, "reply", reply.at, machine=reply.automatic)
    return True


def of_deliveries(connection: sa.Connection, ids: Sequence[str]) -> dict[str, Tracked]:
    """Of those of which anything is known, at most a few hundred."""
    found = connection.execute(sa.select(tracking).where(tracking.c.delivery_id.in_(ids))).mappings()
    return {row["delivery_id"]: Tracked(**{n: row[n] for n in Tracked.__struct_fields__}) for row in found}


def replies_to(connection: sa.Connection, ids: Sequence[str]) -> dict[str, list[Reply]]:
    """Answers by delivery, in the order in which they came."""
    found: dict[str, list[Reply]] = {}
    query = sa.select(replies).where(replies.c.delivery_id.in_(ids)).order_by(replies.c.seq)
    for row in connection.execute(query).mappings():
        found.setdefault(row["delivery_id"], []).append(Reply(**{n: row[n] for n in Reply.__struct_fields__}))
    return found


def forget(connection: sa.Connection, ids: Sequence[str]) -> None:
    """With the deliveries goes what became of them."""
    for table in (tracking, replies):
        connection.execute(table.delete().where(table.c.delivery_id.in_(ids)))
