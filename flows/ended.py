"""An attempt that came to its end, as the tables have it."""

from __future__ import annotations

from typing import Any

import msgspec

from flows.channel import Parcel, Result, Sent
from flows.lanes import Key

MOST_SAID = 2_000  # characters of an answer that are kept


class Ended(msgspec.Struct, frozen=True):
    """One attempt: when it began, how long it took, and when the next one is due (None: there is none)."""

    parcel: Parcel
    result: Result
    began: int
    took_ms: int
    again_at: int | None = None

    @property
    def key(self) -> Key:
        return self.parcel.channel, self.parcel.target

    @property
    def state(self) -> str:
        """Of the delivery, from here on."""
        if isinstance(self.result, Sent):
            return "DONE"
        return "DEAD" if self.again_at is None else "WAITING"

    @property
    def said(self) -> str:
        return fit(self.result.said if isinstance(self.result, Sent) else self.result.why)

    def change(self, now: int) -> dict[str, Any]:
        """What the delivery's row says from here on."""
        return {
            "delivery": self.parcel.id,
            "state": self.state,
            "attempts": self.parcel.attempt,
            "due_at": self.again_at or self.began,
            "last_error": None if isinstance(self.result, Sent) else self.said,
            "done_at": None if self.state == "WAITING" else now,
        }

    @property
    def attempt(self) -> dict[str, Any]:
        """Its row in the log of attempts."""
        return {
            "delivery_id": self.parcel.id,
            "organisation": self.parcel.organisation,
            "channel": self.parcel.channel,
            "target": self.parcel.target,
            "attempt": self.parcel.attempt,
            "at": self.began,
            "took_ms": self.took_ms,
            "result": type(self.result).__name__.upper(),
            "said": self.said,
        }


def fit(text: str) -> str:
    """What SQL takes of it: others' servers answer in any encoding (surrogates), and PostgreSQL takes no NUL."""
    return text.encode(errors="replace").decode().replace("\0", " ")[:MOST_SAID]
