"""What a channel of delivery is, what it is handed, and what it says came of it.

The core (`delivery.py`) does for each channel and target what is the same for all: tries again by `schedule`, ends
what takes too long, stops asking a target that fails (`lanes.py`), bounds what is under way, and keeps what is dead.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

import msgspec
import sqlalchemy as sa

from flows.alert_store import Stored

T = TypeVar("T")


class Parcel(msgspec.Struct, frozen=True, kw_only=True):
    """One delivery on its way. `body` is the same over all attempts; `attempt` counts from 1; `created_at`: ms.

    `alerts` are the ids of those that it tells of; of a test there is none.
    """

    id: str
    organisation: str
    channel: str
    target: str
    alerts: tuple[str, ...]
    body: bytes
    attempt: int
    created_at: int


class Sent(msgspec.Struct, frozen=True):
    """It arrived. `said`: what the other side answered, for the log of attempts."""

    said: str = ""


class Retry(msgspec.Struct, frozen=True):
    """It did not, and may another time. `after_s`: not sooner, as the other side asked; the core bounds it.

    `of_one`: the other side answered, of this delivery alone (no such record), so nothing speaks against its lane.
    """

    why: str
    after_s: float | None = None
    of_one: bool = False


class Dead(msgspec.Struct, frozen=True):
    """It never will; of this delivery alone, so nothing speaks against its lane."""

    why: str


class Gone(msgspec.Struct, frozen=True):
    """Nor will anything else to this target: it is disabled, and what waits for it goes to the dead list.

    `address`: where that was said, since the target may have another by then.
    """

    why: str
    address: str = ""


Result = Sent | Retry | Dead | Gone


class Channel(Protocol[T]):
    """A way to tell somebody. T: what it needs to know of a target, read as of each attempt."""

    name: str
    schedule: tuple[float, ...]  # seconds before each further attempt
    timeout_s: float  # of one attempt
    at_once: int  # attempts under way to one target, at most
    most: int  # and in all: what is due beyond them waits, and loses no try

    def targets(self, connection: sa.Connection, ids: Sequence[str]) -> Mapping[str, T]:
        """Those of the targets that may be sent to now. What is left out is dead: `no such target, or disabled`."""

    async def send(self, parcel: Parcel, to: T) -> Result:
        """One attempt. What it raises is a fault of ours: it is logged, and counts as Retry."""

    def disable(self, connection: sa.Connection, target: str, gone: Gone, at: int) -> bool:
        """After Gone, in the transaction that records it. False where the target has another address by now."""


class NewDelivery(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan wants sent. Times are ms since 1970, by the wall clock.

    `of`: what it is about: with channel and target it makes the id, so that planned twice it is there once. It is the
    alert's id, or of a digest something of its own with `alert` empty.
    `body` None: made by `Plan.body` when it is due, then kept. `due_at` 0: at once. `into`: the id of the digest that
    it is folded into; it is not sent itself. `done`: delivered by being written (in_app). `tries`: how often it is
    tried, 0 as the channel has it. `dead`: why it goes to the dead list at once. `through_quiet`: it is sent in quiet
    hours too. `day`: of the recipient's, by which it is counted as a message; None: by none.
    """

    organisation: str
    channel: str
    target: str
    of: str
    alert: str = ""
    body: bytes | None = b""
    due_at: int = 0
    into: str = ""
    done: bool = False
    dead: str = ""
    tries: int = 0
    through_quiet: bool = False
    day: int | None = None

    @property
    def id(self) -> str:
        return delivery_id(self.of, self.channel, self.target)


def delivery_id(of: str, channel: str, target: str) -> str:
    """128 bits over what it is about, by which way and to whom. Ids hold no control characters, so NUL parts them."""
    return "dl_" + hashlib.blake2b(f"{of}\0{channel}\0{target}".encode(), digest_size=16).hexdigest()


class Plan(Protocol):
    """Which alerts go where. Both are called in the transaction that writes what they say, one at a time."""

    def deliveries(self, connection: sa.Connection, stored: Sequence[Stored], now_ms: int) -> list[NewDelivery]:
        """Of alerts that were just stored, none withheld. `now_ms`: the wall clock."""

    def body(self, connection: sa.Connection, parcel: Parcel) -> bytes:
        """Of a delivery that has none yet and is due; `parcel.alerts` are those that were folded into it."""


Channels = Mapping[str, Channel[Any]]
